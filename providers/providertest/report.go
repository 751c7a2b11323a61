package providertest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// Outcome is what came of a case.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped"
)

// CaseReport is one case's.
type CaseReport struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	// Said are the lines that the case wrote: why it failed or was left out.
	Said     []string `json:"said,omitempty"`
	Duration Millis   `json:"duration_ms"`
}

// Millis is a duration that is written in milliseconds.
type Millis time.Duration

// MarshalJSON writes whole milliseconds.
func (m Millis) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(m).Milliseconds())
}

// Report is what a run of the suite found.
type Report struct {
	Provider string       `json:"provider"`
	Version  string       `json:"version"`
	Cases    []CaseReport `json:"cases"`
	// Leaks counts the resources that were left behind.
	Leaks int `json:"leaks"`
}

// Count is how many cases came out so.
func (r Report) Count(o Outcome) int {
	n := 0
	for _, c := range r.Cases {
		if c.Outcome == o {
			n++
		}
	}
	return n
}

// OK reports whether nothing failed and nothing was left behind.
func (r Report) OK() bool { return r.Count(Failed) == 0 && r.Leaks == 0 && r.Count(Passed) > 0 }

// WriteText writes a line a case and a last one that counts. Errors are w's.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, c := range r.Cases {
		fmt.Fprintf(&b, "%-7s  %s (%s)\n", c.Outcome, c.Name, time.Duration(c.Duration).Round(time.Millisecond))
		if c.Outcome == Passed {
			continue
		}
		for _, line := range c.Said {
			fmt.Fprintf(&b, "         %s\n", line)
		}
	}
	fmt.Fprintf(&b, "%s %s: %d passed, %d failed, %d skipped, %d left behind\n",
		r.Provider, r.Version, r.Count(Passed), r.Count(Failed), r.Count(Skipped), r.Leaks)
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteJSON writes the report as one object. Errors are w's.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// The elements of JUnit's format, as
// https://github.com/testmoapp/junitxml describes it.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Seconds string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes the report as JUnit's XML; what was left behind is a case
// of its own. Errors are w's.
func (r Report) WriteJUnit(w io.Writer) error {
	class := "conformance." + r.Provider
	out := junitSuite{Name: class, Tests: len(r.Cases) + 1, Failures: r.Count(Failed), Skipped: r.Count(Skipped)}
	for _, c := range r.Cases {
		j := junitCase{Class: class, Name: c.Name, Seconds: fmt.Sprintf("%.3f", time.Duration(c.Duration).Seconds())}
		message := &junitMessage{Message: strings.Join(c.Said[:min(1, len(c.Said))], ""), Text: strings.Join(c.Said, "\n")}
		switch c.Outcome {
		case Failed:
			j.Failure = message
		case Skipped:
			j.Skipped = message
		}
		out.Cases = append(out.Cases, j)
	}
	leaks := junitCase{Class: class, Name: "nothing-is-left-behind", Seconds: "0.000"}
	if r.Leaks > 0 {
		out.Failures++
		leaks.Failure = &junitMessage{Message: fmt.Sprintf("%d resources are left", r.Leaks)}
	}
	out.Cases = append(out.Cases, leaks)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
