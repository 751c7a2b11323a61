package reconcile_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

const zapError = zap.ErrorLevel

func TestSignupBecomesReady(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.onlyMachine()
	i := w.instance(id)
	if i.URL() != "https://memory:"+string(i.Machine) {
		t.Errorf("url %q", i.URL())
	}
	if len(i.Plan.Config) != 0 {
		t.Error("the configuration with its token outlives the machine's creation")
	}
	var states []orchestrator.State
	for _, e := range w.events(id) {
		states = append(states, e.To)
		if e.Reason == "" {
			t.Errorf("transition to %s has no reason", e.To)
		}
	}
	want := []orchestrator.State{
		orchestrator.StateWaiting, orchestrator.StateRequested, orchestrator.StateCreating,
		orchestrator.StateBooting, orchestrator.StateEnrolling, orchestrator.StateReady,
	}
	if !slices.Equal(states, want) {
		t.Errorf("went through %v, want %v", states, want)
	}
}

func TestTheProviderNeverHearsOfTheUser(t *testing.T) {
	w := newWorld(t)
	var spec providers.CreateRequest
	w.reach(w.join(user).Instance, orchestrator.StateReady)
	spec = w.cloud.last
	if said := fmt.Sprintf("%+v%s", spec, spec.Spec.Config); strings.Contains(said, string(user)) {
		t.Errorf("the provider heard of %s: %s", user, said)
	}
}

// Every point at which a crash is awkward ends in one ready machine.
func TestCrashAtEachPointEndsInOneReadyMachine(t *testing.T) {
	for _, p := range []failpoint.Point{
		failpoint.AfterCreateBeforeRecord, failpoint.WhileBooting, failpoint.BeforeReady,
	} {
		t.Run(string(p), func(t *testing.T) {
			w := newWorld(t)
			id := w.join(user).Instance
			w.killAt = p
			died := w.survive(func() { w.reach(id, orchestrator.StateReady) })
			if !died {
				t.Fatal("the point was never reached")
			}
			w.restart()
			w.reach(id, orchestrator.StateReady)
			w.onlyMachine()
			if w.cloud.created != 1 {
				t.Errorf("%d machines were created", w.cloud.created)
			}
		})
	}
}

// Whatever the process is killed in, however often, a signup ends in one ready
// machine and a deletion in none.
func TestRandomCrashesLeaveOneMachineAndThenNone(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			id := w.join(user).Instance
			crashing(w, rng, id, orchestrator.StateReady)
			w.onlyMachine()
			if w.cloud.created != 1 {
				t.Errorf("%d machines were created", w.cloud.created)
			}
			w.sleep(time.Second)
			w.leave(user)
			crashing(w, rng, id, orchestrator.StateDeleted)
			if len(w.cloud.Machines()) != 0 {
				t.Errorf("left behind: %v", w.cloud.Machines())
			}
		})
	}
}

func crashing(w *world, rng *rand.Rand, id orchestrator.InstanceID, s orchestrator.State) {
	for range 1 + rng.IntN(6) {
		w.cloud.crashAfter, w.cloud.after = rng.IntN(6), rng.IntN(2) == 0
		w.survive(func() { w.reach(id, s) })
		w.restart()
	}
	w.reach(id, s)
}

// Refusals of every kind that passes only delay.
func TestPassingRefusalsOnlyDelay(t *testing.T) {
	for _, code := range []providers.Code{
		providers.CodeUnauthenticated, providers.CodeDenied, providers.CodeAborted, providers.CodeQuota,
		providers.CodeCapacity, providers.CodeThrottled, providers.CodeUnavailable, providers.CodeOutcomeUnknown,
		providers.CodeInternal,
	} {
		t.Run(string(code), func(t *testing.T) {
			w := newWorld(t)
			left := 4
			w.cloud.fail = func(string) error {
				if left--; left >= 0 {
					e := providers.Errorf(code, "not now")
					e.Hint = "wait"
					return e
				}
				return nil
			}
			id := w.join(user).Instance
			w.pass()
			if i := w.instance(id); !strings.Contains(i.Reason, "not now (wait)") || !w.due(id) {
				t.Errorf("reason %q, next look %v", i.Reason, w.line.due[id])
			}
			w.reach(id, orchestrator.StateReady)
			w.onlyMachine()
		})
	}
}

// A Create whose answer is lost is not repeated before the provider was asked.
func TestOutcomeUnknownLooksBeforeItCreatesAgain(t *testing.T) {
	w := newWorld(t)
	lost := true
	w.cloud.lose = func(call string) error {
		if call == "Create" && lost {
			lost = false
			return providers.Errorf(providers.CodeOutcomeUnknown, "answer lost")
		}
		return nil
	}
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	if n := strings.Count(strings.Join(w.cloud.calls, ","), "Create"); n != 1 {
		t.Errorf("%d calls of Create: %v", n, w.cloud.calls)
	}
}

func TestInvalidFailsAndRetryPlansAgain(t *testing.T) {
	w := newWorld(t)
	w.cloud.fail = func(call string) error {
		if call == "Create" {
			return providers.Errorf(providers.CodeInvalid, "size is unknown")
		}
		return nil
	}
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateFailed)
	first := w.instance(id)
	if !strings.Contains(first.Reason, "size is unknown") {
		t.Errorf("reason %q", first.Reason)
	}
	w.cloud.fail = nil
	w.retry(id)
	w.reach(id, orchestrator.StateReady)
	w.onlyMachine()
	if w.instance(id).Machine == first.Machine {
		t.Error("the id of a machine that was never made is used again")
	}
}

// The contract has a Create without its image answer INVALID.
func TestRetryBringsALostImageBack(t *testing.T) {
	w := newWorld(t)
	w.reach(w.join(user).Instance, orchestrator.StateReady)
	w.cloud.ForgetImages()
	id := w.join("bola").Instance
	w.reach(id, orchestrator.StateFailed)
	w.retry(id)
	w.reach(id, orchestrator.StateReady)
}

func TestCapKeepsTheExcessWaitingInOrder(t *testing.T) {
	w := newWorld(t)
	w.policy.Machines = 1
	w.restart()
	first := w.join("one").Instance
	second := w.join("two").Instance
	third := w.join("three").Instance
	w.reach(first, orchestrator.StateReady)
	for _, id := range []orchestrator.InstanceID{second, third} {
		if i := w.instance(id); i.State != orchestrator.StateWaiting || !strings.Contains(w.rec.Obstacle(orchestrator.StateWaiting), "cap of 1") {
			t.Errorf("%s: %s", i.State, i.Reason)
		}
	}
	w.leave("one")
	w.reach(second, orchestrator.StateReady)
	if s := w.instance(third).State; s != orchestrator.StateWaiting {
		t.Errorf("the third is %s", s)
	}
	w.onlyMachine()
}

func TestWithoutAReleaseItWaits(t *testing.T) {
	w := newWorld(t)
	w.policy.Release[0] = 9
	w.restart()
	id := w.join(user).Instance
	w.pass()
	if i := w.instance(id); i.State != orchestrator.StateWaiting || !strings.Contains(w.rec.Obstacle(orchestrator.StateWaiting), "release") {
		t.Errorf("%s: %s", i.State, i.Reason)
	}
}

// The states from which a deletion must leave nothing.
func TestDeleteFromEveryStateLeavesNothing(t *testing.T) {
	arrange := map[orchestrator.State]func(*world){
		orchestrator.StateWaiting:     func(w *world) { w.policy.Machines = 0; w.restart() },
		orchestrator.StateRequested:   func(w *world) { w.cloud.fail = refusing("EnsureImage") },
		orchestrator.StateCreating:    func(w *world) { w.cloud.fail = refusing("Create") },
		orchestrator.StateBooting:     func(w *world) { w.cloud.mute = true },
		orchestrator.StateEnrolling:   func(*world) {},
		orchestrator.StateReady:       func(*world) {},
		orchestrator.StateQuarantined: func(w *world) { w.cloud.altered = "registers differ: pcr4" },
		orchestrator.StateFailed:      func(w *world) { w.cloud.mute = true },
		orchestrator.StateStopped:     func(*world) {},
	}
	for state, prepare := range arrange {
		t.Run(string(state), func(t *testing.T) {
			w := newWorld(t)
			prepare(w)
			id := w.join(user).Instance
			if state == orchestrator.StateStopped {
				w.reach(id, orchestrator.StateReady)
				if err := w.rec.Halt(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				w.reach(id, state)
			}
			w.cloud.fail, w.cloud.mute = nil, false
			w.sleep(time.Second)
			w.leave(user)
			w.reach(id, orchestrator.StateDeleted)
			if len(w.cloud.Machines()) != 0 {
				t.Errorf("left behind: %v", w.cloud.Machines())
			}
			if i := w.instance(id); !secretFree(i) {
				t.Errorf("the row still knows too much: %+v", i)
			}
		})
	}
}

func refusing(call string) func(string) error {
	return func(c string) error {
		if c == call {
			return providers.Errorf(providers.CodeUnavailable, "not now")
		}
		return nil
	}
}

// A deletion outlasts a provider that refuses it for longer than its deadline.
func TestDeletingNeverGivesUp(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.cloud.fail = func(call string) error {
		if call == "Delete" {
			return providers.Errorf(providers.CodeInvalid, "no")
		}
		return nil
	}
	w.sleep(time.Second)
	w.leave(user)
	w.until("it is overdue", func() bool {
		return slices.ContainsFunc(w.events(id), func(e orchestrator.Event) bool { return strings.HasPrefix(e.Reason, "still trying") })
	})
	w.cloud.fail = nil
	w.reach(id, orchestrator.StateDeleted)
}

func TestAlteredMachineIsQuarantinedAndRetried(t *testing.T) {
	w := newWorld(t)
	w.cloud.altered = "registers differ: pcr11"
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateQuarantined)
	i := w.instance(id)
	if i.Reason != w.cloud.altered || i.URL() != "" {
		t.Errorf("reason %q, url %q", i.Reason, i.URL())
	}
	w.cloud.altered = ""
	w.retry(id)
	w.reach(id, orchestrator.StateReady)
	if !slices.Contains(w.cloud.calls, "SetPower off") {
		t.Error("the retry did not restart the machine")
	}
}

// One restart, then failed and off.
func TestSilentMachineIsRestartedOnceThenFailsAndIsOff(t *testing.T) {
	w := newWorld(t)
	w.cloud.mute = true
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateFailed)
	w.until("it settles", func() bool { return !w.due(id) })
	if p := w.onlyMachine().Power; p != providers.PowerOff {
		t.Errorf("the failed machine is %s", p)
	}
	if n := strings.Count(strings.Join(w.cloud.calls, ","), "SetPower on"); n != 1 {
		t.Errorf("restarted %d times", n)
	}
	w.cloud.mute = false
	w.retry(id)
	w.reach(id, orchestrator.StateReady)
	w.onlyMachine()
}

func TestReadyMachineThatIsOffIsRestartedWithinItsBudget(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	for range w.policy.Repairs {
		w.reach(id, orchestrator.StateReady)
		w.change(func(m *providers.Machine) { m.Power = providers.PowerCrashed })
		w.reach(id, orchestrator.StateBooting)
	}
	w.reach(id, orchestrator.StateReady)
	w.change(func(m *providers.Machine) { m.Power = providers.PowerCrashed })
	w.reach(id, orchestrator.StateFailed)
	w.onlyMachine()
	if slices.Contains(w.cloud.calls, "Delete") {
		t.Error("repair deleted a machine")
	}
}

func TestReadyMachineThatFallsSilentIsRestarted(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.cloud.mute = true
	w.reach(id, orchestrator.StateBooting)
	w.cloud.mute = false
	w.reach(id, orchestrator.StateReady)
	if w.cloud.created != 1 {
		t.Error("it was replaced")
	}
}

func TestMachineThatIsLostFailsVisibly(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.cloud.Forget(w.onlyMachine().ID)
	w.reach(id, orchestrator.StateFailed)
	if i := w.instance(id); !strings.Contains(i.Reason, "no longer has the machine") {
		t.Errorf("reason %q", i.Reason)
	}
	if w.cloud.created != 1 {
		t.Error("a machine that held a user's data was replaced without asking")
	}
}

func TestHaltPowersOffAndTheNextStartBringsTheSameBack(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	before := w.instance(id)
	if err := w.rec.Halt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := w.onlyMachine().Power; p != providers.PowerOff {
		t.Errorf("power %s", p)
	}
	if i := w.instance(id); i.State != orchestrator.StateStopped || i.URL() != "" {
		t.Errorf("%s, url %q", i.State, i.URL())
	}
	w.sleep(30 * 24 * time.Hour)
	w.restart()
	w.reach(id, orchestrator.StateReady)
	after := w.instance(id)
	if after.Machine != before.Machine || after.Enrolment.EK != before.Enrolment.EK {
		t.Error("another machine came back")
	}
}

func TestHaltGivesUpWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.reach(w.join(user).Instance, orchestrator.StateReady)
	w.cloud.deaf = true
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.rec.Halt(ctx); err == nil {
		t.Error("no error from a machine that stays on")
	}
}

// A user who comes back while the machine before is still going gets the next
// one only when that is gone.
func TestOneMachinePerUserAcrossADeletion(t *testing.T) {
	w := newWorld(t)
	first := w.join(user).Instance
	w.reach(first, orchestrator.StateReady)
	w.sleep(time.Second)
	w.leave(user)
	w.sleep(time.Second)
	o := w.join(user)
	if o.Result != signup.Created {
		t.Fatalf("%+v", o)
	}
	most := 0
	w.until("the second is ready", func() bool {
		most = max(most, len(w.cloud.Machines()))
		return w.instance(o.Instance).State == orchestrator.StateReady
	})
	if most != 1 {
		t.Errorf("%d machines at once", most)
	}
}

// The whole loop with the real queue: hints, not these tests, drive it.
func TestRunFollowsHints(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.reconciler(w.store).Run(ctx) }()
	id := w.join(user).Instance
	for {
		changed := w.store.Changed()
		if w.instance(id).State == orchestrator.StateBooting {
			break
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("never booting")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if w.cloud.created != 1 {
		t.Errorf("%d machines", w.cloud.created)
	}
}

func (w *world) retry(id orchestrator.InstanceID) {
	w.t.Helper()
	w.update(func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		e, err := i.Retry(w.now, w.policy.Limits)
		if err != nil {
			return err
		}
		if err := tx.Replace(&i); err != nil {
			return err
		}
		return tx.Note(e)
	})
}

// A verdict holds for one boot: the next one decides anew, either way.
func TestNextVerdictDecidesAnew(t *testing.T) {
	w := newWorld(t)
	id := w.join(user).Instance
	w.reach(id, orchestrator.StateReady)
	w.verdict(id, false)
	w.reach(id, orchestrator.StateQuarantined)
	if i := w.instance(id); i.URL() != "" || i.Reason != "another verdict" {
		t.Errorf("url %q, reason %q", i.URL(), i.Reason)
	}
	w.verdict(id, true)
	w.reach(id, orchestrator.StateReady)
}

func (w *world) verdict(id orchestrator.InstanceID, accepted bool) {
	w.t.Helper()
	w.update(func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		i.Enrolment.Accepted, i.Enrolment.Verdict = accepted, "another verdict"
		return tx.Replace(&i)
	})
}
