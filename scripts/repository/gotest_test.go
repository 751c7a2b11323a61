package repository

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The last line of a test run is what continuous integration reads.
func TestGotestCounts(t *testing.T) {
	for _, c := range []struct {
		packages, last, said string
		fails                bool
	}{
		{"good", "2 passed, 0 failed, 1 skipped", "the reason why", false},
		{"good bad", "3 passed, 1 failed, 1 skipped", "what went wrong", true},
		{"good broken", "2 passed, 1 failed, 1 skipped", "undefined: missing", true},
		{"empty", "0 passed, 0 failed, 0 skipped", "", true},
	} {
		args := []string{"-count=1"}
		for name := range strings.FieldsSeq(c.packages) {
			args = append(args, "./scripts/repository/testdata/gotest/"+name)
		}
		out, err := exec.Command(filepath.Join(root(t), "scripts/gotest"), args...).CombinedOutput()
		if _, exited := errors.AsType[*exec.ExitError](err); exited != c.fails {
			t.Errorf("%s: %v\n%s", c.packages, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if last := lines[len(lines)-1]; last != c.last || !strings.Contains(string(out), c.said) {
			t.Errorf("%s: last line %q, want %q, and %q said\n%s", c.packages, last, c.last, c.said, out)
		}
	}
}
