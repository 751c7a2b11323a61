package reconcile

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/providers"
)

// booting brings a machine from power to a verdict.
func (r *Reconciler) booting(ctx context.Context, t *step) error {
	r.Trap(failpoint.WhileBooting)
	if r.advance(t) {
		return nil
	}
	m, ok, err := r.observe(ctx, t)
	if !ok {
		return err
	}
	if over, err := r.apply(ctx, t, m); over {
		return err
	}
	off := m.Power == providers.PowerOff || m.Power == providers.PowerCrashed
	switch {
	case t.Restoring != "" && off:
		return r.restore(ctx, t)
	case t.DataOf != "" && off:
		return r.attach(ctx, t)
	case t.Cycling && off:
		t.Cycling = false
		return r.power(ctx, t, true)
	case t.Cycling:
		return r.power(ctx, t, false)
	case off:
		return r.power(ctx, t, true)
	case degraded(m):
		r.repair(t, "the machine is on and not well: "+m.Reason)
	case r.advance(t):
		// It only lacked the endpoint that was just seen.
	case m.Power == providers.PowerOn:
		t.again(pollBooting)
	default:
		t.again(pollSoon)
	}
	return nil
}

// advance moves an instance on by what its machine has shown. It reports
// whether that decided anything.
func (r *Reconciler) advance(t *step) bool {
	e, ok := t.Advance(t.now, t.limits)
	if !ok {
		return false
	}
	t.events = append(t.events, e)
	t.lasted = 0
	if t.State == orchestrator.StateReady {
		r.Trap(failpoint.BeforeReady)
	}
	return true
}

// serving watches over a machine with a verdict.
func (r *Reconciler) serving(ctx context.Context, t *step) error {
	e := t.Enrolment
	// A machine that waits for its owner is to stay on as one that serves.
	ready := t.State != orchestrator.StateQuarantined
	switch {
	case !e.Judged:
		t.enter(orchestrator.StateEnrolling, "the machine has booted again")
		return nil
	case r.advance(t):
		return nil
	}
	m, ok, err := r.observe(ctx, t)
	if !ok {
		return err
	}
	if over, err := r.apply(ctx, t, m); over {
		return err
	}
	switch {
	case ready && (m.Power == providers.PowerOff || m.Power == providers.PowerCrashed):
		r.repair(t, fmt.Sprintf("the machine is %s%s", m.Power, because(m.Reason)))
	case ready && degraded(m):
		r.repair(t, "the machine is on and not well: "+m.Reason)
	case ready && t.quiet > r.patience(t):
		r.repair(t, fmt.Sprintf("no heartbeat for %s", t.quiet.Round(time.Second)))
	case ready && t.Repairs > 0 && t.lasted > wellFor:
		t.Repairs = 0
		t.again(pollReady)
	default:
		t.again(pollReady)
	}
	return nil
}

// degraded reports whether the provider sees that a machine which is on is not
// what it should be, as when its TPM has ended. No heartbeat says so.
func degraded(m providers.Machine) bool { return m.Power == providers.PowerOn && m.Reason != "" }

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// patience is how long a machine may be silent. One that said that it goes on to
// another release boots meanwhile.
func (r *Reconciler) patience(t *step) time.Duration {
	if t.Update.Trying() {
		return max(r.Policy.HeartbeatLost, t.limits.Booting)
	}
	return r.Policy.HeartbeatLost
}

// repair restarts a machine within its budget. It never replaces one: the
// machine and its data are the user's. One restart that brings a machine back from
// a trial of another release is the trial's, and not counted.
func (r *Reconciler) repair(t *step, reason string) {
	if t.Update.Trying() && !t.Update.Restarted {
		t.Update.Restarted = true
		r.cycle(t, reason)
		return
	}
	if t.Repairs >= r.Policy.Repairs {
		t.enter(orchestrator.StateFailed, fmt.Sprintf("%s, after %d restarts", reason, t.Repairs))
		return
	}
	r.restart(t, reason)
}

// observe reads the machine. Where ok is false the step is over.
func (r *Reconciler) observe(ctx context.Context, t *step) (m providers.Machine, ok bool, err error) {
	m, err = r.machines(t.Plan.Provider).Get(ctx, t.Machine)
	switch {
	case providers.CodeOf(err) == providers.CodeNotFound:
		t.enter(orchestrator.StateFailed, "the provider no longer has the machine")
		return m, false, nil
	case err != nil:
		return m, false, r.refused(ctx, t, "looking at the machine", err)
	}
	t.Attempts = 0
	t.Endpoint = m.Endpoint
	return m, true, nil
}

// apply brings a machine that is there to what is desired now, and mends what
// somebody else changed. Where over is set, that was the step.
func (r *Reconciler) apply(ctx context.Context, t *step, m providers.Machine) (over bool, _ error) {
	if m.Generation == t.Generation && m.Drift == "" || m.Power == providers.PowerPending {
		return false, nil
	}
	if m.Drift != "" {
		r.Logger.Warn("machine has drifted", zap.String("instance", string(t.ID)), zap.String("drift", m.Drift))
	}
	_, err := r.machines(t.Plan.Provider).Apply(ctx, providers.Change{Machine: t.Machine, Generation: t.Generation, DataBytes: t.DataBytes})
	switch code := providers.CodeOf(err); code {
	case "":
		t.again(pollSoon)
		return true, nil
	case providers.CodeConflict, providers.CodeInvalid, providers.CodeUnimplemented:
		// Another control plane knows better, or it cannot be done: the machine
		// serves on as it is.
		r.Logger.Error("machine cannot be brought to what is desired", zap.String("instance", string(t.ID)),
			zap.Uint64("generation", t.Generation), zap.Uint64("has", m.Generation), zap.Error(err))
		return false, nil
	}
	return true, r.refused(ctx, t, "bringing the machine to what is desired", err)
}

// restore sets the data disk of a machine that is off back to a snapshot.
func (r *Reconciler) restore(ctx context.Context, t *step) error {
	s := r.Snapshotters[r.providerName(t.Plan.Provider)]
	if s == nil {
		t.Restoring = ""
		t.enter(orchestrator.StateFailed, "the provider makes no snapshots")
		return nil
	}
	err := s.Restore(ctx, t.Machine, t.Restoring)
	switch providers.CodeOf(err) {
	case "":
		t.Restoring = ""
		return nil
	case providers.CodeNotFound, providers.CodeConflict, providers.CodeInvalid, providers.CodeUnimplemented:
		// Another try would be refused as well: a retry goes on with the disk as
		// it is.
		t.Restoring = ""
		t.enter(orchestrator.StateFailed, fmt.Sprintf("restoring the snapshot: %v", err))
		return nil
	}
	return r.refused(ctx, t, "restoring the snapshot", err)
}

// power asks for on or off; what becomes of it is seen at the next look.
func (r *Reconciler) power(ctx context.Context, t *step, on bool) error {
	t.Enrolment = t.Enrolment.NextBoot()
	if err := r.machines(t.Plan.Provider).SetPower(ctx, t.Machine, on); err != nil {
		return r.refused(ctx, t, "switching the machine", err)
	}
	t.again(pollSoon)
	return nil
}

// failed keeps a machine that is given up from costing anything. It keeps its
// disks: they are the user's.
func (r *Reconciler) failed(ctx context.Context, t *step) error {
	if t.Machine == "" {
		t.rest()
		return nil
	}
	m, err := r.machines(t.Plan.Provider).Get(ctx, t.Machine)
	switch {
	case providers.CodeOf(err) == providers.CodeNotFound:
		t.rest()
		return nil
	case err != nil:
		return r.lookAgain(ctx, t, err)
	}
	t.Created = true
	if m.Power == providers.PowerOff || m.Power == providers.PowerCrashed {
		t.rest()
		return nil
	}
	t.Enrolment = t.Enrolment.NextBoot()
	if err := r.machines(t.Plan.Provider).SetPower(ctx, t.Machine, false); err != nil {
		return r.lookAgain(ctx, t, err)
	}
	t.again(pollSoon)
	return nil
}

// lookAgain backs off and keeps the reason for which the instance failed.
func (r *Reconciler) lookAgain(ctx context.Context, t *step, err error) error {
	reason := t.Reason
	if err := r.refused(ctx, t, "powering a failed machine off", err); err != nil {
		return err
	}
	t.Reason = reason
	return nil
}

// deleting ends with the provider saying that nothing is there.
func (r *Reconciler) deleting(ctx context.Context, t *step) error {
	if t.Machine == "" {
		t.gone()
		return nil
	}
	if t.DataOf != "" && t.DataOf != t.Machine {
		if err := r.machines(t.Plan.Provider).Delete(ctx, t.DataOf, false); err != nil {
			return r.refused(ctx, t, "deleting the disk that was kept", err)
		}
		t.DataOf = ""
		return nil
	}
	if err := r.machines(t.Plan.Provider).Delete(ctx, t.Machine, false); err != nil {
		return r.refused(ctx, t, "deleting the machine", err)
	}
	_, err := r.machines(t.Plan.Provider).Get(ctx, t.Machine)
	switch {
	case providers.CodeOf(err) == providers.CodeNotFound:
		t.gone()
	case err != nil:
		return r.refused(ctx, t, "seeing that the machine is gone", err)
	default:
		t.Attempts++
		t.again(pause(t.Attempts, nil))
	}
	return nil
}

// gone keeps of an instance what its history needs, and no secret and no user.
func (t *step) gone() {
	t.enter(orchestrator.StateDeleted, "deleted")
	t.User = ""
	t.Plan.Config, t.Plan.TokenHash = nil, [32]byte{}
	t.Enrolment = orchestrator.Enrolment{}
	t.Endpoint = ""
	t.Created, t.Uncertain, t.Cycling = false, false, false
	t.DataOf = ""
}
