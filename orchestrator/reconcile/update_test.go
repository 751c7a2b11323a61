package reconcile_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// release adds a release after the world's own.
func (w *world) release(digest byte, epoch uint64) orchestrator.Release {
	w.t.Helper()
	w.sleep(time.Second)
	var rel orchestrator.Release
	w.update(func(tx store.Tx) (err error) {
		if rel, err = tx.Release(attest.ReleaseDigest{1}); err != nil {
			return err
		}
		rel.Digest, rel.Epoch, rel.AddedAt = attest.ReleaseDigest{digest}, epoch, w.now
		return tx.PutRelease(rel)
	})
	return rel
}

func (w *world) offer(id orchestrator.InstanceID, rel orchestrator.Release) {
	w.t.Helper()
	err := w.move(id, func(i *orchestrator.Instance) (orchestrator.Event, error) {
		e, ok, err := i.Offer(rel, w.now)
		if !ok {
			err = errors.Join(err, errors.New("nothing was offered"))
		}
		return e, err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// says is a heartbeat about the offer, of a machine that shows a release, as package
// enrol writes it down.
func (w *world) says(id orchestrator.InstanceID, shows attest.ReleaseDigest, step api.UpdateStep, reason api.UpdateReason) {
	w.t.Helper()
	w.update(func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		i.Enrolment.Release = shows
		i.Report(api.UpdateStatus{Release: i.Update.Release, Attempt: i.Update.Attempt, Step: step, Reason: reason}, w.now)
		seen := map[providers.MachineID]time.Time{i.Machine: w.now}
		return errors.Join(tx.Replace(&i), tx.Seen(seen), tx.Enqueue(id))
	})
}

// toUpdate is a world with a machine that serves and says that it goes on to another
// release.
func toUpdate(t *testing.T) (w *world, id orchestrator.InstanceID, rel orchestrator.Release) {
	t.Helper()
	w = newWorld(t)
	id = w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	rel = w.release(2, 2)
	w.offer(id, rel)
	w.says(id, attest.ReleaseDigest{1}, api.UpdateInstalling, "")
	return w, id, rel
}

// A machine says nothing while it restarts into another release, for as long as a
// boot may take; nothing is done to it meanwhile.
func TestMachineThatRestartsForAnUpdateIsLeftAlone(t *testing.T) {
	w, id, rel := toUpdate(t)
	calls := len(w.cloud.calls)
	w.cloud.mute = true
	w.live(w.policy.Limits.Booting - 30*time.Second)
	if i := w.instance(id); i.State != orchestrator.StateReady || i.Repairs != 0 {
		t.Errorf("%s after %d restarts: %s", i.State, i.Repairs, i.Reason)
	}
	if i := slices.IndexFunc(w.cloud.calls[calls:], func(call string) bool { return call != "Get" && call != "List" }); i >= 0 {
		t.Errorf("calls %v", w.cloud.calls[calls:])
	}
	w.cloud.mute = false
	w.says(id, rel.Digest, api.UpdateDone, "")
	w.live(3 * w.policy.HeartbeatLost)
	if i := w.instance(id); i.State != orchestrator.StateReady || i.Runs() != rel.Digest || i.Repairs != 0 {
		t.Errorf("%+v", i)
	}
}

// A trial that hangs is ended by the restart that any silent machine gets, which
// brings it back on its old release; that one is not counted, and the next is. The
// machine is never another.
func TestTrialThatHangsIsRestarted(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := range 6 {
			w, id, _ := toUpdate(t)
			machine := w.onlyMachine().ID
			w.cloud.mute = true
			w.cloud.crashAfter, w.cloud.after = at, after
			if w.survive(func() { w.reach(id, orchestrator.StateBooting) }) {
				w.restart()
			}
			w.cloud.crashAfter = -1
			w.reach(id, orchestrator.StateBooting)
			if i := w.instance(id); i.Repairs != 0 || !i.Update.Restarted {
				t.Fatalf("call %d: %d restarts counted", at, i.Repairs)
			}
			w.cloud.mute = false
			w.reach(id, orchestrator.StateReady)
			w.says(id, attest.ReleaseDigest{1}, api.UpdateFellBack, api.ReasonNotStarted)
			w.live(w.policy.HeartbeatLost)
			i := w.instance(id)
			if i.State != orchestrator.StateReady || i.Runs() != (attest.ReleaseDigest{1}) || i.Machine != machine || w.cloud.created != 1 {
				t.Errorf("call %d: %+v", at, i)
			}
		}
	}
}

func TestOneRestartOfATrialIsFree(t *testing.T) {
	w, id, rel := toUpdate(t)
	w.policy.Repairs = 1
	w.rec = w.reconciler(w.line)
	silent := func() {
		w.t.Helper()
		w.cloud.mute = true
		w.until("it is given up or restarted", func() bool {
			s := w.instance(id).State
			return s == orchestrator.StateBooting || s == orchestrator.StateFailed
		})
		w.cloud.mute = false
	}
	for _, want := range []int{0, 1} {
		silent()
		if i := w.instance(id); i.Repairs != want || i.State != orchestrator.StateBooting {
			t.Fatalf("%d restarts counted, want %d, %s", i.Repairs, want, i.State)
		}
		w.reach(id, orchestrator.StateReady)
	}
	silent()
	if i := w.instance(id); i.State != orchestrator.StateFailed || i.Runs() == rel.Digest {
		t.Errorf("%s after %d restarts", i.State, i.Repairs)
	}
}

// A machine that waits for its owner's word is watched over as any other, and its
// restart is an ordinary one.
func TestSilenceBeforeTheApprovalIsNoTrial(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.offer(id, w.release(2, 2))
	w.says(id, attest.ReleaseDigest{1}, api.UpdateAwaiting, "")
	w.live(time.Minute)
	w.cloud.mute = true
	began := w.steady
	w.reach(id, orchestrator.StateBooting)
	if took := w.steady - began; took > w.policy.HeartbeatLost+15*time.Second {
		t.Errorf("restarted after %s", took)
	}
	if i := w.instance(id); i.Repairs != 1 || i.Update.Restarted {
		t.Errorf("%d restarts counted", i.Repairs)
	}
}

// Another machine for data that a newer release wrote is not made from an older one.
func TestReplacementAfterAnUpdate(t *testing.T) {
	for name, c := range map[string]struct {
		pinned, later bool
		want          byte
	}{
		"the default is the older one": {pinned: true, want: 2},
		"the default is the same":      {want: 2},
		"the default is newer":         {later: true, want: 3},
	} {
		w, id, rel := toUpdate(t)
		w.says(id, rel.Digest, api.UpdateDone, "")
		if c.pinned {
			w.policy.Release = attest.ReleaseDigest{1}
			w.rec = w.reconciler(w.line)
		}
		if c.later {
			w.release(3, 2)
		}
		lost := w.instance(id).Machine
		w.locked = func(m providers.MachineID) bool { return m != lost }
		if err := w.replace(id); err != nil {
			t.Fatal(err)
		}
		w.reach(id, orchestrator.StateAwaitingOwner)
		i := w.instance(id)
		if want := (attest.ReleaseDigest{c.want}); i.Plan.Release != want || i.Runs() != want || w.cloud.last.Spec.Release != want {
			t.Errorf("%s: made from %s", name, i.Plan.Release)
		}
		if i.Update != (orchestrator.Update{Attempt: 1}) {
			t.Errorf("%s: %+v", name, i.Update)
		}
	}
}

// What a provider was asked for stays what it was asked for: a machine that was
// updated is switched off and on, and set back, as the one that was made.
func TestUpdatedMachineIsStillTheProvidersOwn(t *testing.T) {
	w, id, rel := toUpdate(t)
	w.says(id, rel.Digest, api.UpdateDone, "")
	machine := w.onlyMachine().ID
	if _, err := w.cloud.Snapshot(t.Context(), machine, "before"); err != nil {
		t.Fatal(err)
	}
	if err := w.rec.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.reach(id, orchestrator.StateReady)
	restore := func(i *orchestrator.Instance) (orchestrator.Event, error) {
		return i.Restore("before", w.now, w.policy.Limits)
	}
	if err := w.move(id, restore); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateBooting)
	w.reach(id, orchestrator.StateReady)
	w.change(func(m *providers.Machine) { m.Drift = "somebody changed it" })
	w.live(time.Minute)
	i := w.instance(id)
	if i.State != orchestrator.StateReady || i.Runs() != rel.Digest || i.Machine != machine || w.cloud.created != 1 {
		t.Errorf("%+v", i)
	}
}
