package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// downWithin is what a stop may take.
const downWithin = 15 * time.Second

// Machines outlive a control plane and a plugin that are killed together;
// make down still powers them off, and make up brings the same ones back.
func TestVMDownAfterEverythingWasKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startWith()
	w.signUp("ada")
	i := w.ready("ada")
	w.handedOverClaim(i)

	w.part("a second control plane is refused", w.refusesASecond)
	w.part("down powers everything off", func() {
		// Stopped first, so that neither sees the other die and cleans up.
		plugin := w.plugin()
		w.signalPlugin(plugin, syscall.SIGSTOP)
		w.kill()
		w.signalPlugin(plugin, syscall.SIGKILL)
		w.running()
		started := time.Now()
		w.must(down(w.t.Context(), w.place))
		if took := time.Since(started); took > downWithin {
			w.t.Errorf("it took %s, want at most %s", took, downWithin)
		}
		if n := len(w.processes("qemu-system-x86_64")) + len(w.processes("swtpm")); n > 0 {
			w.t.Errorf("%d processes run after make down", n)
		}
		left, err := filepath.Glob(filepath.Join(w.place.runtime, "*"))
		w.must(err)
		if len(left) > 0 {
			w.t.Errorf("left after make down: %v", left)
		}
		if n := len(w.machines()); n != 1 {
			w.t.Errorf("%d machines are kept, want 1", n)
		}
	})
	w.part("the same comes back", func() {
		w.must(w.place.make())
		w.start()
		if again := w.ready("ada"); again.ID != i.ID || again.URL != i.URL {
			w.t.Errorf("another machine came back: %+v, was %+v", again, i)
		}
		w.running()
		if got := w.ask(i.URL, "GET", "/api/kv/colour", ""); got != "green" {
			w.t.Errorf("the data is %q", got)
		}
	})
}

// handedOverClaim claims a machine and leaves data on it.
func (w *world) handedOverClaim(i instance) {
	w.t.Helper()
	w.exits(0, []string{"claim", i.URL}, "is yours")
	w.ask(i.URL, "PUT", "/api/kv/colour", "green")
}

// refusesASecond starts another control plane on the same state.
func (w *world) refusesASecond() {
	for _, mode := range [][]string{nil, {"--power-off"}} {
		args := append([]string{"--state", w.place.root, "serve", "--config", w.place.config()}, mode...)
		out, err := exec.CommandContext(w.t.Context(), w.place.program("shed"), args...).CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if err == nil || len(lines) != 2 || !strings.HasPrefix(lines[0], "shed: ") || !strings.HasPrefix(lines[1], "hint: ") {
			w.t.Errorf("error %v, and it says %q; want one line and a hint", err, out)
		}
	}
	w.running()
}
