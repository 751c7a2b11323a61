//go:build !failpoints

package failpoint_test

import (
	"os/exec"
	"testing"
)

// What is only there in programs that are built to be killed is tested here
// too: no other command builds this package so.
func TestWithFailpoints(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-tags", "failpoints", ".").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
