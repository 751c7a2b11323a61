package main

import (
	"os"
	"syscall"
	"testing"
	"time"
)

// Deleting leaves nothing whatever state the instance is in, and what is sent
// again of its signup afterwards brings nothing back.
func TestVMDeleteFromEveryState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(os.Symlink(w.place.ekRoot(), w.place.in(rootForAWhile)))
	for _, c := range []struct {
		state string
		// env brings the control plane to the state or holds it there.
		env []string
		run func(w *world, signup message)
	}{
		{"waiting", []string{"SHED_LIMITS_MACHINES=0"}, deleteWaiting},
		{"requested", nil, deleteRequested},
		{"booting", nil, deleteBooting},
		{"creating", nil, deleteCreating},
		{"created", []string{"SHED_FAILPOINT=after-create-before-record"}, deleteCreated},
		{"failed", []string{"SHED_TIMEOUTS_BOOTING=2s"}, deleteFailed},
		{"enrolling", []string{`SHED_POLICY_EK_ROOTS=[{"file":"` + w.place.in(rootForAWhile) + `","tier":"software"}]`}, deleteEnrolling},
		{"quarantined", []string{"SHED_POLICY_MINIMUM_TIER=hardware"}, deleteQuarantined},
		{"stopped", nil, deleteStopped},
	} {
		w.part(c.state, func() {
			w.startWith(c.env...)
			signup := newMessage("user.created", c.state)
			c.run(w, signup)
			w.nothing()
			w.sends(signup, "duplicate")
			w.sends(signup.another(), "ignored")
			w.nothing()
			w.stop()
		})
	}
}

func deleteWaiting(w *world, signup message) {
	w.sends(signup, "created")
	w.leave(w.waitState(signup.user, "waiting"))
}

// The plugin hangs while it should make the image available, and then dies.
func deleteRequested(w *world, signup message) {
	plugin := w.plugin()
	w.signalPlugin(plugin, syscall.SIGSTOP)
	w.sends(signup, "created")
	i := w.waitState(signup.user, "requested")
	w.sends(newMessage("user.deleted", signup.user), "deleting")
	w.signalPlugin(plugin, syscall.SIGKILL)
	w.gone(i)
}

func deleteBooting(w *world, signup message) {
	w.sends(signup, "created")
	i := w.waitState(signup.user, "booting")
	w.boots()
	w.remove(i)
}

// The plugin hangs while a machine is asked for, and then makes it all the
// same or, for the next user, dies. The image must be there by then, or this
// is "requested".
func deleteCreating(w *world, signup message) {
	w.signUp("before")
	w.leave(w.waitState("before", "booting"))
	w.deleteWhileCreating(signup, syscall.SIGCONT)
	w.nothing()
	w.deleteWhileCreating(newMessage("user.created", "next"), syscall.SIGKILL)
}

func (w *world) deleteWhileCreating(signup message, end syscall.Signal) {
	w.t.Helper()
	plugin := w.plugin()
	w.signalPlugin(plugin, syscall.SIGSTOP)
	w.sends(signup, "created")
	i := w.waitState(signup.user, "creating")
	w.sends(newMessage("user.deleted", signup.user), "deleting")
	w.signalPlugin(plugin, end)
	w.gone(i)
}

// The control plane dies when the machine is made and it does not know yet.
func deleteCreated(w *world, signup message) {
	w.sends(signup, "created")
	w.killed()
	if n := len(w.machines()); n != 1 {
		w.t.Errorf("there are %d machines after the crash, want 1", n)
	}
	w.startWith()
	all, err := w.place.instances(w.t.Context())
	w.must(err)
	if len(all) != 1 {
		w.t.Fatalf("instances %+v, want one", all)
	}
	w.leave(all[0])
}

// A machine that does not come up in time is off, keeps its disks, and goes
// with them.
func deleteFailed(w *world, signup message) {
	w.sends(signup, "created")
	i := w.waitState(signup.user, "failed")
	w.within(time.Minute, "waiting for a failed machine to be off", func() bool {
		return len(w.processes("qemu-system-x86_64"))+len(w.processes("swtpm")) == 0
	})
	if n := len(w.machines()); n != 1 {
		w.t.Errorf("%d machines are kept of a failed instance, want 1", n)
	}
	w.remove(i)
}

// rootForAWhile is an endorsement root that is there at the start and gone when
// a machine is judged.
const rootForAWhile = "root-for-a-while.pem"

func deleteEnrolling(w *world, signup message) {
	w.must(os.Remove(w.place.in(rootForAWhile)))
	w.sends(signup, "created")
	w.leave(w.waitState(signup.user, "enrolling"))
}

func deleteQuarantined(w *world, signup message) {
	w.sends(signup, "created")
	i := w.waitState(signup.user, "quarantined")
	if i.URL != "" {
		w.t.Errorf("a quarantined machine is routed to: %s", i.URL)
	}
	w.remove(i)
}

// A machine that was powered off with the control plane goes before it has
// come up again.
func deleteStopped(w *world, signup message) {
	w.sends(signup, "created")
	i := w.ready(signup.user)
	w.stop()
	if n := len(w.processes("qemu-system-x86_64")) + len(w.processes("swtpm")); n > 0 {
		w.t.Errorf("%d processes run after the stop", n)
	}
	w.start()
	w.leave(i)
}
