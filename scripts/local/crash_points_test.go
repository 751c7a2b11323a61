package main

import "testing"

// crashPoints are where a crash is most awkward, in the order in which a
// signup passes them. A name that no program knows kills nothing, which the
// tests notice.
var crashPoints = []string{
	"after-inbox-commit", "after-create-before-record", "while-booting", "between-challenge-and-activation", "before-ready",
}

// The control plane is killed at each point and started again: each time the
// user has exactly one machine, and its processes are counted.
func TestVMCrashOfControlPlane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, point := range crashPoints {
		w.part(point, func() {
			w.startWith("SHED_FAILPOINT=" + point)
			signup := newMessage("user.created", point)
			_, err := w.send(signup)
			if cut := point == "after-inbox-commit"; cut != (err != nil) {
				w.t.Errorf("the signup was answered with %v", err)
			}
			w.killed()
			w.startWith()
			w.sends(signup, "duplicate")
			w.sends(signup.another(), "existing")
			if point == "while-booting" {
				w.killWhileFirmwareRuns()
			}
			i := w.ready(point)
			w.running()
			w.remove(i)
			w.nothing()
			w.stop()
		})
	}
}

// killWhileFirmwareRuns kills the control plane once more, and sees that the
// very same processes go on.
func (w *world) killWhileFirmwareRuns() {
	w.t.Helper()
	w.boots()
	qemu, swtpm := w.running()
	w.kill()
	w.startWith()
	if q, s := w.running(); q != qemu || s != swtpm {
		w.t.Errorf("QEMU runs as %d and swtpm as %d; they ran as %d and %d before the crash", q, s, qemu, swtpm)
	}
}

// The plugin is killed at each point; the control plane, which is not, starts
// another, and the user has exactly one machine.
func TestVMCrashOfPlugin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, point := range crashPoints {
		w.part(point, func() {
			w.startWith("SHED_FAILPOINT=plugin:" + point)
			before := w.plugin()
			w.sends(newMessage("user.created", point), "created")
			w.pluginReplaced(before)
			i := w.ready(point)
			w.running()
			w.remove(i)
			w.nothing()
			w.stop()
		})
	}
}
