package enrol_test

import (
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// What a machine shows moves its instance on in the transaction that writes it
// down: no look of anybody's is needed for it to be ready, and the machine that
// is answered can be reached.
func TestWhatIsShownMovesTheInstanceOn(t *testing.T) {
	g := newGate(t)
	g.change(func(i *orchestrator.Instance) { i.Endpoint = "127.0.0.1:1" })
	a := g.dial()
	a.enrol()
	if i := g.instance(); i.State != orchestrator.StateEnrolling {
		t.Errorf("enrolled, and it is %s", i.State)
	}
	a.call(api.HeartbeatPath, api.Heartbeat{Machine: machineID, Running: true, Healthy: true}, nil)
	if i := g.instance(); i.State != orchestrator.StateReady || i.URL() == "" {
		t.Errorf("serving, and it is %s", i.State)
	}
	var states []orchestrator.State
	err := g.store.View(t.Context(), func(v store.Reader) error {
		events, err := v.Events(0, "instance", 10)
		for _, e := range events {
			states = append(states, e.To)
		}
		return err
	})
	if want := []orchestrator.State{orchestrator.StateEnrolling, orchestrator.StateReady}; err != nil || !slices.Equal(states, want) {
		t.Errorf("went through %v, want %v: %v", states, want, err)
	}
}
