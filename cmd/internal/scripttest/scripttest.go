// Package scripttest runs the scripts that say how a command line behaves.
//
// Invariant: a script names in its first lines what it guards.
package scripttest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/toolshed-cloud/shed/imagebuild"
)

// Run runs the scripts in dir, each in an environment that setup, where there
// is one, has prepared.
func Run(t *testing.T, dir string, setup func(*testscript.Env) error) {
	t.Helper()
	testscript.Run(t, testscript.Params{
		Dir:       dir,
		Condition: condition,
		Cmds:      map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup:     setup,
	})
}

// condition knows what a script may ask of the host: [stub] is systemd-stub,
// [netns] an empty network namespace, which only root can make here.
func condition(name string) (bool, error) {
	switch name {
	case "stub":
		_, err := os.Stat(imagebuild.DefaultStub)
		return err == nil, nil
	case "netns":
		return exec.Command("unshare", "--net", "true").Run() == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// exits runs a program and wants its exit code: exits CODE PROGRAM ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
