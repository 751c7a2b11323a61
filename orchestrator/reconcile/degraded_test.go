package reconcile_test

import (
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

const tpmGone = "the machine's TPM has ended"

// What the provider sees of a machine is what its state says, whatever its
// heartbeats say: one that runs degraded is not ready, and is restarted.
func TestDegradedMachineIsNotReadyAndIsRestarted(t *testing.T) {
	for _, state := range []orchestrator.State{orchestrator.StateEnrolling, orchestrator.StateReady} {
		t.Run(string(state), func(t *testing.T) {
			w := newWorld(t)
			id := w.join(user).Instance
			w.reach(id, state)
			w.change(func(m *providers.Machine) { m.Reason = tpmGone })
			w.until("it is restarted", func() bool { return w.instance(id).Repairs == 1 })
			i := w.instance(id)
			if i.State != orchestrator.StateBooting || !strings.Contains(i.Reason, tpmGone) || i.URL() != "" {
				t.Errorf("it is %s (%s) at %q", i.State, i.Reason, i.URL())
			}
			w.reach(id, orchestrator.StateReady)
			if m := w.onlyMachine(); m.Power != providers.PowerOn || m.Reason != "" {
				t.Errorf("the machine is %s: %s", m.Power, m.Reason)
			}
		})
	}
}

// A machine that stays degraded uses up its budget and is then off.
func TestDegradedMachineFailsOnceItsBudgetIsSpent(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.until("it has failed", func() bool {
		for _, m := range w.cloud.Machines() {
			if m.Power == providers.PowerOn {
				m.Reason = tpmGone
				w.cloud.Put(m)
			}
		}
		return w.instance(id).State == orchestrator.StateFailed
	})
	i := w.instance(id)
	if i.Repairs != w.policy.Repairs || !strings.Contains(i.Reason, tpmGone) {
		t.Errorf("failed after %d restarts: %s", i.Repairs, i.Reason)
	}
	w.until("it is off", func() bool { return w.onlyMachine().Power == providers.PowerOff })
}

// A quarantined machine is left as it is, for its owner to look at.
func TestDegradedQuarantinedMachineIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.cloud.altered = "registers differ: pcr4"
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateQuarantined)
	w.change(func(m *providers.Machine) { m.Reason = tpmGone })
	for range 60 {
		w.pass()
		w.sleep(pollStep)
	}
	if i := w.instance(id); i.State != orchestrator.StateQuarantined || i.Repairs != 0 {
		t.Errorf("it is %s after %d restarts", i.State, i.Repairs)
	}
}
