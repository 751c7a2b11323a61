package reconcile_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// AttachData implements providers.DataAttacher.
func (c *cloud) AttachData(ctx context.Context, machine, from providers.MachineID) error {
	return c.do("AttachData", func() error { return c.Provider.AttachData(ctx, machine, from) })
}

// move is what an operator asks for.
func (w *world) move(id orchestrator.InstanceID, to func(*orchestrator.Instance) (orchestrator.Event, error)) error {
	return w.store.Update(w.t.Context(), func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		if _, err := to(&i); err != nil {
			return err
		}
		return errors.Join(tx.Replace(&i), tx.Enqueue(id))
	})
}

func (w *world) replace(id orchestrator.InstanceID) error {
	return w.move(id, func(i *orchestrator.Instance) (orchestrator.Event, error) { return i.Replace(w.now, w.policy.Limits) })
}

// toReplace is a world with a machine that serves, and whose replacement's data
// waits for its owner.
func toReplace(t *testing.T) (w *world, id orchestrator.InstanceID, lost providers.MachineID) {
	t.Helper()
	w = newWorld(t)
	id = w.join("amara").Instance
	w.reach(id, orchestrator.StateReady)
	lost = w.instance(id).Machine
	w.locked = func(m providers.MachineID) bool { return m != lost }
	return w, id, lost
}

// Wherever the process dies, an instance gets one other machine with the disk of
// the one before, which nothing deletes, and serves once its owner was there.
func TestMachineIsReplaced(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := range 12 {
			w, id, lost := toReplace(t)
			if err := w.replace(id); err != nil {
				t.Fatal(err)
			}
			w.cloud.crashAfter, w.cloud.after = at, after
			if w.survive(func() { w.reach(id, orchestrator.StateAwaitingOwner) }) {
				w.restart()
			}
			w.cloud.crashAfter = -1
			w.reach(id, orchestrator.StateAwaitingOwner)
			i := w.instance(id)
			if i.Machine == lost || i.DataOf != "" || i.URL() == "" {
				t.Fatalf("call %d: %+v", at, i)
			}
			if n := len(w.cloud.Machines()); n != 1 {
				t.Fatalf("call %d: %d machines", at, n)
			}
			if err := w.cloud.AttachData(t.Context(), i.Machine, lost); err != nil {
				t.Fatalf("call %d: the machine does not have the disk: %v", at, err)
			}
			w.locked = nil
			w.reach(id, orchestrator.StateReady)
			if i := w.instance(id); i.Enrolment.AwaitingOwner {
				t.Errorf("%+v", i)
			}
		}
	}
}

// A machine that the provider has lost is replaced too, as long as its disk is
// there; without it the instance says so and nothing is made in its place.
func TestLostMachineIsReplaced(t *testing.T) {
	for _, kept := range []bool{true, false} {
		w, id, lost := toReplace(t)
		if err := w.cloud.Provider.Delete(t.Context(), lost, kept); err != nil {
			t.Fatal(err)
		}
		w.reach(id, orchestrator.StateFailed)
		if err := w.replace(id); err != nil {
			t.Fatal(err)
		}
		if kept {
			w.reach(id, orchestrator.StateAwaitingOwner)
			continue
		}
		w.reach(id, orchestrator.StateFailed)
		if i := w.instance(id); !strings.Contains(i.Reason, "disk of "+string(lost)) || i.DataOf != lost {
			t.Errorf("%+v", i)
		}
	}
}

// The machine that takes another's place has proved nothing yet.
func TestReplacementHasProvedNothing(t *testing.T) {
	w, id, lost := toReplace(t)
	before := w.instance(id)
	if err := w.move(id, func(i *orchestrator.Instance) (orchestrator.Event, error) {
		i.Repairs = 1
		return i.Replace(w.now, w.policy.Limits)
	}); err != nil {
		t.Fatal(err)
	}
	w.cloud.fail = func(call string) error {
		if call == "Create" {
			return providers.Errorf(providers.CodeUnavailable, "not now")
		}
		return nil
	}
	w.until("another machine is planned", func() bool { return w.instance(id).Machine != lost })
	i := w.instance(id)
	if !reflect.DeepEqual(i.Enrolment, orchestrator.Enrolment{}) || i.Endpoint != "" || i.Created || i.Repairs != 0 {
		t.Errorf("it begins with %+v", i)
	}
	if i.Plan.TokenHash.IsZero() || i.Plan.TokenHash == before.Plan.TokenHash || i.Plan.Provider != before.Plan.Provider {
		t.Errorf("planned as %+v, before %+v", i.Plan, before.Plan)
	}
}

// A machine that the provider does not take from its disk stays the instance's:
// it serves again after a retry, and can be replaced once that works.
func TestMachineThatCannotBeReplaced(t *testing.T) {
	w, id, lost := toReplace(t)
	w.cloud.fail = func(call string) error {
		if call == "Delete" {
			return providers.Errorf(providers.CodeUnimplemented, "disks are not kept here")
		}
		return nil
	}
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateFailed)
	if i := w.instance(id); !strings.Contains(i.Reason, "disks are not kept here") {
		t.Errorf("it says %q", i.Reason)
	}
	retry := func(i *orchestrator.Instance) (orchestrator.Event, error) { return i.Retry(w.now, w.policy.Limits) }
	if err := w.move(id, retry); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateReady)
	if i := w.instance(id); i.Machine != lost || i.DataOf != "" {
		t.Errorf("after a retry %+v", i)
	}
	w.cloud.fail = nil
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateAwaitingOwner)
}

// While a provider does not say whether the machine is gone, that is what the
// instance waits for, less and less often.
func TestMachineThatMayBeThereStill(t *testing.T) {
	w, id, lost := toReplace(t)
	w.cloud.fail = func(call string) error {
		if call == "Get" {
			return providers.Errorf(providers.CodeUnavailable, "not now")
		}
		return nil
	}
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.until("it was asked for several times", func() bool { return w.instance(id).Attempts > 2 })
	if i := w.instance(id); i.State != orchestrator.StateReplacing || i.Machine != lost || !strings.Contains(i.Reason, "seeing that the machine is gone") {
		t.Errorf("%+v", i)
	}
	w.cloud.fail = nil
	w.reach(id, orchestrator.StateAwaitingOwner)
}

// What is asked for twice, or of an instance without a machine, is refused.
func TestReplacingIsRefused(t *testing.T) {
	w, id, _ := toReplace(t)
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	if err := w.replace(id); !errors.Is(err, orchestrator.ErrConflict) {
		t.Error(err)
	}
	w.leave("amara")
	if err := w.replace(id); !errors.Is(err, orchestrator.ErrConflict) {
		t.Error(err)
	}
	w.reach(id, orchestrator.StateDeleted)
	w.policy.Places = nil
	w.restart()
	waits := w.join("bela").Instance
	w.pass()
	if err := w.replace(waits); !errors.Is(err, orchestrator.ErrConflict) {
		t.Error(err)
	}
}

// An instance that is deleted while its machine is replaced leaves nothing, the
// disk that was kept included.
func TestDeletedWhileReplaced(t *testing.T) {
	for at := range 8 {
		w, id, _ := toReplace(t)
		if err := w.replace(id); err != nil {
			t.Fatal(err)
		}
		for range at {
			w.look(id)
		}
		w.leave("amara")
		w.reach(id, orchestrator.StateDeleted)
		page, err := w.cloud.List(t.Context(), w.policy.Installation, "")
		if err != nil || len(page.Resources) != 0 {
			t.Errorf("after %d looks: %v, %v", at, page.Resources, err)
		}
	}
}

// A disk that is kept for a machine to come is no leftover.
func TestKeptDiskIsNoLeftover(t *testing.T) {
	w, id, lost := toReplace(t)
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.cloud.fail = func(call string) error {
		if call == "Create" {
			return providers.Errorf(providers.CodeUnavailable, "not now")
		}
		return nil
	}
	w.until("the machine is gone", func() bool { return w.instance(id).Machine != lost })
	for range 3 {
		w.sleep(w.policy.OrphanGrace)
		if err := w.rec.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.cloud.fail = nil
	// Ten minutes without an answer were too long.
	w.reach(id, orchestrator.StateFailed)
	retry := func(i *orchestrator.Instance) (orchestrator.Event, error) { return i.Retry(w.now, w.policy.Limits) }
	if err := w.move(id, retry); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateAwaitingOwner)
}

// Data that does not open on its own machine waits for its owner there, without
// restarts that would not help.
func TestDataThatDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	id := w.join("amara").Instance
	w.locked = func(providers.MachineID) bool { return true }
	w.reach(id, orchestrator.StateAwaitingOwner)
	machine := w.instance(id).Machine
	for range 20 {
		w.sleep(w.policy.HeartbeatLost / 2)
		w.agents()
		w.pass()
	}
	if i := w.instance(id); i.State != orchestrator.StateAwaitingOwner || i.Repairs != 0 || i.Machine != machine {
		t.Errorf("%+v", i)
	}
}

// A snapshot is of a machine's own disk: an instance whose machine is being
// replaced is not set back meanwhile, and still gets its other machine.
func TestRestoringWhileReplaced(t *testing.T) {
	for looks := range 2 {
		w, id, lost := toReplace(t)
		if err := w.replace(id); err != nil {
			t.Fatal(err)
		}
		for range looks {
			w.look(id)
		}
		if w.instance(id).DataOf != lost {
			t.Fatalf("after %d looks the disk is moved already", looks)
		}
		restore := func(i *orchestrator.Instance) (orchestrator.Event, error) {
			return i.Restore("before", w.now, w.policy.Limits)
		}
		if err := w.move(id, restore); !errors.Is(err, orchestrator.ErrConflict) {
			t.Errorf("after %d looks: %v", looks, err)
		}
		w.reach(id, orchestrator.StateAwaitingOwner)
	}
}

// What keeps a machine from being replaced is mended, and then it is: until then
// it goes on serving.
func TestReplacingIsTriedAgain(t *testing.T) {
	w, id, lost := toReplace(t)
	w.cloud.fail = func(call string) error {
		if call == "Delete" {
			return providers.Errorf(providers.CodeUnimplemented, "not like this")
		}
		return nil
	}
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateFailed)
	w.cloud.fail = nil
	retry := func(i *orchestrator.Instance) (orchestrator.Event, error) { return i.Retry(w.now, w.policy.Limits) }
	if err := w.move(id, retry); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateReady)
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateAwaitingOwner)
	if i := w.instance(id); i.Machine == lost || i.DataOf != "" {
		t.Errorf("%+v", i)
	}
}

// A snapshot of the machine before outlives it, and is nothing to clean up, however
// often one looks.
func TestSnapshotOfAReplacedMachineIsNoLeftover(t *testing.T) {
	w, id, lost := toReplace(t)
	if _, err := w.cloud.Snapshot(t.Context(), lost, providers.SnapshotID(strings.Repeat("s", 26))); err != nil {
		t.Fatal(err)
	}
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateAwaitingOwner)
	deleted := 0
	w.cloud.fail = func(call string) error {
		if call == "Delete" {
			deleted++
		}
		return nil
	}
	for range 4 {
		w.sleep(w.policy.OrphanGrace)
		if err := w.rec.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if deleted != 0 {
		t.Errorf("%d deletions of a machine that is gone", deleted)
	}
}

// A snapshot that is not of the machine, as one of the machine before, is refused
// once: the instance fails, and a retry has it serve again.
func TestSnapshotOfAnotherMachineIsNotRestored(t *testing.T) {
	w, id, lost := toReplace(t)
	before := providers.SnapshotID(strings.Repeat("s", 26))
	if _, err := w.cloud.Snapshot(t.Context(), lost, before); err != nil {
		t.Fatal(err)
	}
	if err := w.replace(id); err != nil {
		t.Fatal(err)
	}
	w.locked = nil
	w.reach(id, orchestrator.StateReady)
	restore := func(i *orchestrator.Instance) (orchestrator.Event, error) {
		return i.Restore(before, w.now, w.policy.Limits)
	}
	if err := w.move(id, restore); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateFailed)
	retry := func(i *orchestrator.Instance) (orchestrator.Event, error) { return i.Retry(w.now, w.policy.Limits) }
	if err := w.move(id, retry); err != nil {
		t.Fatal(err)
	}
	w.reach(id, orchestrator.StateReady)
}
