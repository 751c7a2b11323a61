package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// attack is one case with its accepted twin, both worked out already.
type attack struct {
	name   string
	reason reason
	good   outcome
	bad    outcome
}

func (a attack) twin() outcome     { return a.good }
func (a attack) attacked() outcome { return a.bad }

// outcome is what became of one piece of evidence.
type outcome struct {
	accepted bool
	// err is an error of verification, causes are those of the findings.
	err    error
	result attest.AttestationResult
}

func judged(r attest.AttestationResult, err error) outcome {
	return outcome{accepted: err == nil && r.Accepted(), err: err, result: r}
}

// said is what a person is told, without line ends and at most so long.
func (o outcome) said() string {
	const most = 150
	text := o.text()
	return text[:min(len(text), most)]
}

func (o outcome) text() string {
	text := "accepted"
	if o.err != nil {
		text = o.err.Error()
	} else if !o.accepted {
		var all []string
		for _, f := range o.result.Findings {
			if f.Verdict >= attest.Contraindicated {
				all = append(all, f.Reason)
			}
		}
		text = strings.Join(all, "; ")
	}
	return strings.ReplaceAll(text, "\n", " ")
}

// reason is why an attack has to be refused.
type reason struct {
	// kind is the sentinel of the error, or of a finding's cause; nil for a
	// finding that has none, which says must name.
	kind error
	// says is a word of the field that is wrong; empty where the kind says all.
	says string
	// differs are the registers that must be named, and no others; nil for any.
	differs []string
	// never is what must not be said: what a lying log says.
	never string
}

func (r reason) is(o outcome) bool {
	if r.kind == nil && r.says == "" {
		return false
	}
	if r.differs != nil && !slices.Equal(o.result.Differs, r.differs) {
		return false
	}
	if r.never != "" && strings.Contains(o.text(), r.never) {
		return false
	}
	if o.err != nil {
		return errors.Is(o.err, r.kind) && strings.Contains(fmt.Sprint(o.err), r.says)
	}
	return slices.ContainsFunc(o.result.Findings, func(f attest.Finding) bool {
		return errors.Is(f.Cause, r.kind) && strings.Contains(f.Reason, r.says)
	})
}
