package reconcile_test

import (
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

func TestSweepDeletesLeftoversTwiceConfirmedAndNothingElse(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	machine := w.onlyMachine()
	w.sleep(time.Second)
	w.leave(user)
	w.reach(id, orchestrator.StateDeleted)
	kept := w.join("other").Instance
	w.reach(kept, orchestrator.StateReady)
	// A Create that was under way when its caller died ends after the
	// deletion; and something that only an older copy of the store knew.
	w.cloud.Put(machine)
	w.cloud.Put(providers.Machine{ID: "stranger", Installation: w.policy.Installation, Resources: []providers.Resource{
		{Kind: providers.ResourceMachine, ID: "stranger", Machine: "stranger"},
	}})

	w.sweep()
	if !w.cloud.has(machine.ID) {
		t.Fatal("deleted at first sight")
	}
	w.sleep(w.policy.OrphanGrace / 2)
	w.sweep()
	if !w.cloud.has(machine.ID) {
		t.Fatal("deleted within the grace period")
	}
	w.sleep(w.policy.OrphanGrace)
	w.sweep()
	if w.cloud.has(machine.ID) {
		t.Error("a leftover stays")
	}
	if !w.cloud.has("stranger") {
		t.Error("a machine that the store has never heard of was deleted without asking")
	}
	if !w.cloud.has(w.instance(kept).Machine) {
		t.Error("a machine in use was deleted")
	}
}

func TestSweepStopsWhileTheStoreDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	w.reach(w.join(user).Instance, orchestrator.StateReady)
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.rec.Sweep(t.Context()); err == nil {
		t.Error("swept without a store")
	}
	if slices.Contains(w.cloud.calls, "Delete") {
		t.Error("deleted without a store")
	}
	w.open()
}

func (w *world) sweep() {
	w.t.Helper()
	if err := w.rec.Sweep(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}
