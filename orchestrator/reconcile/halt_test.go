package reconcile_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// A power-off that finds the provider busy with a machine, or just started
// again, does not leave the machine on.
func TestHaltAsksAgainWhereTheRefusalPasses(t *testing.T) {
	for _, call := range []string{"SetPower off", "Get"} {
		for _, code := range []providers.Code{providers.CodeAborted, providers.CodeUnavailable} {
			t.Run(call+" "+string(code), func(t *testing.T) {
				w := newWorld(t)
				id := w.join(user).Instance
				w.reach(id, orchestrator.StateReady)
				refusals := 1
				w.cloud.fail = func(c string) error {
					if c != call || refusals == 0 {
						return nil
					}
					refusals--
					return providers.Errorf(code, "not now")
				}
				if err := w.rec.Halt(t.Context()); err != nil {
					t.Fatal(err)
				}
				if p := w.onlyMachine().Power; p != providers.PowerOff {
					t.Errorf("power %s", p)
				}
			})
		}
	}
}

// What is being deleted cannot be switched off: a power-off waits for it to be
// gone.
func TestHaltWaitsForADeletionUnderWay(t *testing.T) {
	w := newWorld(t)
	w.reach(w.join(user).Instance, orchestrator.StateReady)
	w.cloud.fail = func(call string) error {
		if call == "SetPower off" {
			return providers.Errorf(providers.CodeAborted, "it is being deleted")
		}
		w.cloud.Forget(w.onlyMachine().ID)
		return nil
	}
	if err := w.rec.Halt(t.Context()); err != nil {
		t.Error(err)
	}
}

// A refusal that stays is an error at once, and says which instance it is.
func TestHaltFailsWhereTheRefusalStays(t *testing.T) {
	w := newWorld(t)
	w.reach(w.join(user).Instance, orchestrator.StateReady)
	w.cloud.fail = func(string) error { return providers.Errorf(providers.CodeDenied, "no") }
	if err := w.rec.Halt(t.Context()); providers.CodeOf(err) != providers.CodeDenied {
		t.Errorf("error %v, want the provider's", err)
	}
}

// A request that was under way when the work stopped may still write the row.
func TestHaltRecordsOverALateWrite(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.cloud.lose = func(call string) error {
		if call == "SetPower off" {
			w.update(func(tx store.Tx) error {
				i, err := tx.Instance(id)
				if err != nil {
					return err
				}
				i.Enrolment.Healthy = false
				return tx.Replace(&i)
			})
		}
		return nil
	}
	if err := w.rec.Halt(t.Context()); err != nil {
		t.Error(err)
	}
	if i := w.instance(id); i.State != orchestrator.StateStopped {
		t.Errorf("it is %s", i.State)
	}
}
