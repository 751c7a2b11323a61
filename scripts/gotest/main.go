// Command gotest runs go test and says what go test leaves out: why a test was
// skipped. Its arguments are go test's.
//
// Invariants: a package's result and a failed test's output are printed as go
// test prints them; each skipped test is printed with its reason; the exit
// status is go test's; the last line counts.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is one line of go test -json (go doc cmd/test2json).
type event struct {
	Action, Package, Test, Output string
}

// report gathers the output of what has not ended yet.
type report struct {
	w                       io.Writer
	output                  map[string]*strings.Builder
	skips                   []string
	passed, failed, skipped int
}

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
	r := &report{w: os.Stdout, output: map[string]*strings.Builder{}}
	r.read(out)
	err = cmd.Wait()
	r.close()
	if err != nil || r.failed > 0 {
		os.Exit(1)
	}
}

func (r *report) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line)
		}
		if err != nil {
			return
		}
	}
}

// line takes one line; what is no event, such as a build's complaint, passes.
func (r *report) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(r.w, line)
		return
	}
	r.take(e)
}

func (r *report) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if r.output[key] == nil {
			r.output[key] = new(strings.Builder)
		}
		r.output[key].WriteString(e.Output)
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	text := ""
	if r.output[key] != nil {
		text = r.output[key].String()
		delete(r.output, key)
	}
	if e.Test == "" {
		r.endPackage(e, text)
		return
	}
	r.endTest(e, text)
}

func (r *report) endTest(e event, text string) {
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		fmt.Fprint(r.w, text)
	case "skip":
		r.skipped++
		r.skips = append(r.skips, fmt.Sprintf("skipped %s %s:%s", e.Package, e.Test, reason(text)))
	}
}

// endPackage prints go test's own line on a package, and all it said where it
// failed.
func (r *report) endPackage(e event, text string) {
	if e.Action == "fail" {
		fmt.Fprint(r.w, text)
		return
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "ok ") {
			fmt.Fprint(r.w, line)
		}
	}
}

// reason is what a skipped test said, on one line.
func reason(text string) string {
	var said []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return " " + strings.Join(said, " ")
}

// close prints what is left: output that no test or package took, as of a
// build that failed.
func (r *report) close() {
	for _, text := range r.output {
		fmt.Fprint(r.w, text.String())
	}
	for _, skip := range r.skips {
		fmt.Fprintln(r.w, skip)
	}
	fmt.Fprintf(r.w, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
}
