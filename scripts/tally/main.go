// Command tally counts what the provider conformance suite did, from the output
// of go test -json. Invariants: every case is counted once, a package that
// failed outside the suite fails the whole, and its last line is one JSON
// object.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/toolshed-cloud/shed/providers/providertest"
)

func main() {
	ok, err := tally(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tally: %v\n", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// event is a line of go test -json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Key     string
	Value   string
}

// run is what one provider's suite did.
type run struct {
	Name    string `json:"name"`
	Cases   int    `json:"cases"`
	Passed  int    `json:"passed"`
	Skipped int    `json:"skipped"`
	Failed  int    `json:"failed"`
	Leaks   int    `json:"leaks"`
}

// counter collects runs by the package and test that ran the suite.
type counter struct {
	runs    map[string]*run
	outputs map[string][]string
	// broken are packages that failed, with what they said.
	broken map[string]string
}

// maxLine caps one line of go test's output.
const maxLine = 1 << 20

func tally(in io.Reader, out io.Writer) (ok bool, err error) {
	c := counter{runs: map[string]*run{}, outputs: map[string][]string{}, broken: map[string]string{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// A build that fails says so in plain text.
			fmt.Fprintln(out, lines.Text())
			continue
		}
		if err := c.count(e); err != nil {
			return false, err
		}
	}
	if err := lines.Err(); err != nil {
		return false, fmt.Errorf("reading the test's output: %w", err)
	}
	return c.report(out)
}

// count takes in one event.
func (c counter) count(e event) error {
	suite, name, isCase := strings.Cut(e.Test, "/")
	key := e.Package + " " + suite
	switch e.Action {
	case "output":
		c.outputs[e.Package] = append(c.outputs[e.Package], e.Output)
	case "attr":
		return c.attribute(key, e)
	case "pass", "skip", "fail":
		r := c.runs[key]
		switch {
		case isCase && r != nil && !strings.Contains(name, "/"):
			r.add(e.Action)
		case e.Test == "" && e.Action == "fail":
			c.broken[e.Package] = strings.Join(c.outputs[e.Package], "")
		}
	}
	return nil
}

func (c counter) attribute(key string, e event) error {
	switch e.Key {
	case providertest.AttrProvider:
		c.runs[key] = &run{Name: e.Value}
	case providertest.AttrLeaks:
		leaks, err := strconv.Atoi(e.Value)
		if err != nil || c.runs[key] == nil {
			return fmt.Errorf("test %s tells of %q leaks", e.Test, e.Value)
		}
		c.runs[key].Leaks = leaks
	}
	return nil
}

func (r *run) add(action string) {
	r.Cases++
	switch action {
	case "pass":
		r.Passed++
	case "skip":
		r.Skipped++
	default:
		r.Failed++
	}
}

// report prints the table and the object.
func (c counter) report(out io.Writer) (ok bool, err error) {
	result := struct {
		Providers []run `json:"providers"`
	}{Providers: []run{}}
	ok = len(c.runs) > 0 && len(c.broken) == 0
	for _, r := range c.runs {
		result.Providers = append(result.Providers, *r)
		ok = ok && r.Cases > 0 && r.Failed == 0 && r.Leaks == 0
	}
	slices.SortFunc(result.Providers, func(a, b run) int { return strings.Compare(a.Name, b.Name) })
	for pkg, said := range c.broken {
		fmt.Fprintf(out, "%s failed:\n%s\n", pkg, said)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "provider\tcases\tpassed\tskipped\tfailed\tleaks")
	for _, r := range result.Providers {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%d\n", r.Name, r.Cases, r.Passed, r.Skipped, r.Failed, r.Leaks)
	}
	if err := table.Flush(); err != nil {
		return false, fmt.Errorf("printing the table: %w", err)
	}
	return ok, json.NewEncoder(out).Encode(result)
}
