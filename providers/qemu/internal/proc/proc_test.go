package proc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// sleeper starts a process that does nothing and answers what waits for it.
func sleeper(t *testing.T, marker string) (*exec.Cmd, ID) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read x", marker)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, id
}

func TestEndOfAProcessIsSeenThoughNobodyReapedIt(t *testing.T) {
	_, id := sleeper(t, "end")
	p, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !p.Alive() {
		t.Fatal("process is not alive")
	}
	if err := p.End(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	if p.Alive() {
		t.Error("process is alive after its end")
	}
	if _, err := Open(id); !errors.Is(err, ErrGone) {
		t.Errorf("opening it again: %v, want ErrGone", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	_, id := sleeper(t, "wait")
	p, err := Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait answered %v", err)
	}
}

func TestRecycledPidIsAStranger(t *testing.T) {
	_, id := sleeper(t, "stranger")
	for name, other := range map[string]ID{
		"another start": {PID: id.PID, Start: id.Start + 1, Boot: id.Boot},
		"another boot":  {PID: id.PID, Start: id.Start, Boot: "other"},
		"nothing":       {},
	} {
		if _, err := Open(other); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v, want ErrGone", name, err)
		}
	}
}

func TestScanFindsByCommandLine(t *testing.T) {
	marker := "shed-scan-" + t.TempDir()
	_, id := sleeper(t, marker)
	found, err := Scan(func(args []string) bool { return slices.Contains(args, marker) && args[0] == "sh" })
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].ID != id {
		t.Errorf("found %v, want %v", found, id)
	}
}

func FuzzParseStart(f *testing.F) {
	self, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(self)
	f.Add([]byte("1 (a) b) S 1 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 42 0 0"))
	f.Add([]byte("1 (a"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parseStart(b) })
}

func TestParseStartSkipsAnOddName(t *testing.T) {
	got, err := parseStart([]byte("1 (a) b) S 1 1 1 0 -1 4194560 1 1 1 1 1 1 1 1 20 0 1 0 42 0 0"))
	if err != nil || got != 42 {
		t.Errorf("got %d, %v", got, err)
	}
}
