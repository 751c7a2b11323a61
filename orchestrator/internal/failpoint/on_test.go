//go:build failpoints

package failpoint_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
)

// victim tells a test process that it is to be killed.
const victim = "SHED_FAILPOINT_VICTIM"

func TestHereKillsAtItsPointAlone(t *testing.T) {
	if os.Getenv(victim) != "" {
		failpoint.Here(failpoint.BeforeReady)
		failpoint.Here(failpoint.WhileBooting)
		os.Exit(7)
	}
	for name, want := range map[string]syscall.Signal{"while-booting": syscall.SIGKILL, "after-inbox-commit": -1} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHereKillsAtItsPointAlone$")
		cmd.Env = append(os.Environ(), victim+"=1", "SHED_FAILPOINT="+name)
		var exit *exec.ExitError
		if err := cmd.Run(); !errors.As(err, &exit) {
			t.Fatalf("%s: %v", name, err)
		}
		if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.Signal() != want {
			t.Errorf("%s: ended by %v", name, exit)
		}
	}
}

func TestPluginIsKilledOnce(t *testing.T) {
	t.Setenv("SHED_FAILPOINT", "plugin:before-ready")
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	asked := 0
	failpoint.OnPlugin(func() int { asked++; return cmd.Process.Pid })
	failpoint.Here(failpoint.BeforeReady)
	failpoint.Here(failpoint.BeforeReady)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || asked != 1 {
		t.Errorf("%v after being asked for %d times", err, asked)
	}
}
