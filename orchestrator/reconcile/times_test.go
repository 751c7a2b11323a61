package reconcile_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// pollStep is how far these tests let time go at once.
const pollStep = time.Second

// steps are what can happen to a wall clock.
var steps = map[string]time.Duration{"an hour forward": time.Hour, "an hour backward": -time.Hour}

// stepped runs f after the wall clock was set, in the same process and, for
// another run, across a restart.
func stepped(t *testing.T, arrange func(*world), f func(*testing.T, *world)) {
	t.Helper()
	for name, step := range steps {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", name, restart), func(t *testing.T) {
				w := newWorld(t)
				arrange(w)
				w.now = w.now.Add(step)
				if restart {
					w.restart()
				}
				f(t, w)
			})
		}
	}
}

// live lets time go by with agents that heartbeat.
func (w *world) live(d time.Duration) {
	w.t.Helper()
	for range d / pollStep {
		w.pass()
		w.agents()
		w.sleep(pollStep)
	}
	w.pass()
}

func TestWallClockThatIsSetPowerCyclesNothing(t *testing.T) {
	var ready, booting orchestrator.InstanceID
	stepped(t, func(w *world) {
		ready = w.join("ready").Instance
		w.reach(ready, orchestrator.StateReady)
		booting = w.join("booting").Instance
		w.reach(booting, orchestrator.StateBooting)
	}, func(t *testing.T, w *world) {
		w.live(2 * w.policy.HeartbeatLost)
		for _, id := range []orchestrator.InstanceID{ready, booting} {
			if i := w.instance(id); i.State != orchestrator.StateReady || i.Repairs != 0 {
				t.Errorf("%s is %s after %d restarts: %s", i.User, i.State, i.Repairs, i.Reason)
			}
		}
		if slices.Contains(w.cloud.calls, "SetPower off") {
			t.Error("a machine was powered off")
		}
	})
}

func TestWallClockThatIsSetStopsNoSupervision(t *testing.T) {
	var id orchestrator.InstanceID
	stepped(t, func(w *world) {
		id = w.join(user).Instance
		w.reach(id, orchestrator.StateReady)
		w.live(time.Minute)
	}, func(t *testing.T, w *world) {
		w.cloud.mute = true
		began := w.steady
		w.reach(id, orchestrator.StateBooting)
		// The looks at a ready machine are ten seconds apart.
		if took := w.steady - began; took < w.policy.HeartbeatLost-10*time.Second || took > w.policy.HeartbeatLost+15*time.Second {
			t.Errorf("a silent machine was restarted after %s, want about %s", took, w.policy.HeartbeatLost)
		}
	})
}

// Of a limit, what has passed counts, whatever is done to the wall clock and
// the process; at most an eighth of it is forgotten with each.
func TestWallClockThatIsSetMovesNoLimit(t *testing.T) {
	var id orchestrator.InstanceID
	var began time.Duration
	stepped(t, func(w *world) {
		w.cloud.mute = true
		id = w.join(user).Instance
		w.reach(id, orchestrator.StateBooting)
		began = w.steady
		w.live(w.policy.Limits.Booting * 3 / 4)
	}, func(t *testing.T, w *world) {
		w.until("it is restarted", func() bool { return w.instance(id).Repairs == 1 })
		limit := w.policy.Limits.Booting
		if took := w.steady - began; took < limit || took > limit+limit/8+10*time.Second {
			t.Errorf("overdue after %s, want %s and at most an eighth more", took, limit)
		}
	})
}

// A process that dies again and again does not keep a machine booting for ever.
func TestDyingOftenDoesNotExtendALimit(t *testing.T) {
	w := newWorld(t)
	w.cloud.mute = true
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateBooting)
	limit := w.policy.Limits.Booting
	lives := 0
	for w.instance(id).Repairs == 0 {
		if lives++; lives > 8 {
			t.Fatalf("still booting after %d lives of a quarter of the limit", lives)
		}
		w.live(limit / 4)
		w.restart()
	}
}

// Nor does what a machine may have said to a process that has ended, however
// long it was ready by then.
func TestSilenceBeginsWithTheProcess(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.sleep(time.Hour)
	// The row is written late in its stay, as for a machine that changes its address.
	w.update(func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		i.Lasted = time.Hour
		return tx.Replace(&i)
	})
	w.restart()
	w.live(time.Minute)
	if i := w.instance(id); i.State != orchestrator.StateReady || i.Repairs != 0 {
		t.Errorf("it is %s after %d restarts: %s", i.State, i.Repairs, i.Reason)
	}
}

// What is deleted is no longer timed.
func TestNothingIsKeptOfTheDeleted(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	if n := w.rec.Stays(); n != 1 {
		t.Errorf("%d instances are timed", n)
	}
	w.leave(user)
	w.reach(id, orchestrator.StateDeleted)
	w.pass()
	if n := w.rec.Stays(); n != 0 {
		t.Errorf("%d instances are timed still", n)
	}
}

// Time in which no control plane ran does not count against a machine: it
// could not have been heard.
func TestTimeWithoutAProcessDoesNotCount(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	booting := w.join("booting").Instance
	w.reach(booting, orchestrator.StateBooting)
	w.sleep(24 * time.Hour)
	w.restart()
	w.live(time.Minute)
	for _, id := range []orchestrator.InstanceID{id, booting} {
		if i := w.instance(id); i.State != orchestrator.StateReady || i.Repairs != 0 {
			t.Errorf("%s is %s after %d restarts: %s", i.User, i.State, i.Repairs, i.Reason)
		}
	}
}
