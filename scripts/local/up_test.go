package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What `make up` says to try next works as it stands: it names the state
// directory wherever that is not the default.
func TestNextCommands(t *testing.T) {
	for state, want := range map[string]string{
		".shed":     "bin/shed instance list\n",
		".shed-two": "bin/shed --state .shed-two instance list\n",
		"it's mine": `bin/shed --state 'it'\''s mine' instance list` + "\n",
	} {
		root, err := filepath.Abs(state)
		if err != nil {
			t.Fatal(err)
		}
		l := &local{
			place: place{root: root}, proxy: &proxy{URL: "http://127.0.0.1:1"},
			instance: instance{ID: "id", URL: "https://127.0.0.1:2"},
		}
		next := l.next()
		if !strings.Contains(next, want) {
			t.Errorf("%s: want %q in\n%s", state, want, next)
		}
		if named := strings.Count(next, "--state"); named != 0 && named != strings.Count(next, "bin/shed") {
			t.Errorf("%s: some commands name the state\n%s", state, next)
		}
		if out, err := exec.Command("sh", "-c", "printf %s "+quoted(state)).Output(); err != nil || string(out) != state {
			t.Errorf("a shell makes %q of %q: %v", out, state, err)
		}
	}
}

// A program's error is shown to people as the program would have.
func TestComplaint(t *testing.T) {
	for stderr, want := range map[string]string{
		"": "", "plain\n": "plain",
		`{"error":"it broke","exit_code":1}` + "\n":                          "it broke",
		"step one\n" + `{"error":"it broke","hint":"mend it","exit_code":1}`: "step one\nit broke\nhint: mend it",
	} {
		if got := complaint([]byte(stderr)); got != want {
			t.Errorf("%q: %q, want %q", stderr, got, want)
		}
	}
}
