// Package foreign checks evidence that some other program made: a hardware
// report, a cloud's document or a TPM's quote by itself, as files hold them.
//
// Invariants: what was verified, what a policy made of it and what is only
// shown are told apart, and what was not looked at is said; evidence that is
// not genuine is an error and never a result; nothing of it says that a session
// is live or who is spoken with.
package foreign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/policy"
)

// Asked is what all kinds of evidence are held against.
type Asked struct {
	// Policy is nil where none is asked: then what is genuine is all that is
	// said.
	Policy *policy.Policy
	// At is the time at which it all must be valid.
	At time.Time
	// Data is what the evidence must carry as its maker's own bytes, such as a
	// nonce; nil where nothing is asked.
	Data []byte
}

// Verdict is what a policy made of genuine evidence.
type Verdict string

// The verdicts.
const (
	NotAsked Verdict = "not asked"
	Accepted Verdict = "accepted"
	Refused  Verdict = "refused"
)

// Result is what was found of evidence that is genuine.
type Result struct {
	// Kind is "snp-report", "tdx-quote", "nitro-document", "tpm-quote",
	// "azure-quote" or "certified-quote".
	Kind string `json:"kind"`
	// At is the time at which it was verified.
	At time.Time `json:"at"`
	// Verified are the checks that were made, each in a line.
	Verified []string `json:"verified"`
	// Facts are what the evidence says, once it is known to be genuine.
	Facts Facts `json:"facts"`
	// Policy is the verdict, Refusals the reasons of one that refuses, and
	// Warnings what is less than it could be, or was not looked at.
	Policy   Verdict  `json:"policy"`
	Refusals []string `json:"refusals,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// Fact is one thing that evidence says.
type Fact struct{ Name, Value string }

// Facts are an object in JSON, in this order.
type Facts []Fact

// MarshalJSON writes an object.
func (f Facts) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, fact := range f {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, text := range []string{fact.Name, fact.Value} {
			quoted, err := json.Marshal(text)
			if err != nil {
				return nil, fmt.Errorf("encoding facts: %w", err)
			}
			if j > 0 {
				b.WriteByte(':')
			}
			b.Write(quoted)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (r *Result) verified(format string, args ...any) {
	r.Verified = append(r.Verified, fmt.Sprintf(format, args...))
}

func (r *Result) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

func (r *Result) fact(name, format string, args ...any) {
	r.Facts = append(r.Facts, Fact{name, fmt.Sprintf(format, args...)})
}

// judged takes a policy's reasons.
func (r *Result) judged(refusals, warnings []string) {
	r.Policy, r.Refusals = Accepted, refusals
	if len(refusals) > 0 {
		r.Policy = Refused
	}
	r.Warnings = append(r.Warnings, warnings...)
}

// compare holds the evidence's own bytes against those that were asked for.
// The error is attest.ErrBinding.
func (r *Result) compare(name string, got, want []byte) error {
	r.fact(name, "%x", got)
	if want == nil {
		return nil
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: %s is %x, want %x", attest.ErrBinding, name, got, want)
	}
	r.verified("%s is what was asked for", name)
	return nil
}
