// Package reconcile brings each instance from where it is to where it should
// be, one step at a time.
//
// Invariants: a step reads what is desired and what the provider shows, makes
// at most one call that changes something, and persists over the version that
// it read; it can die anywhere and be taken again. A machine's id is stored
// before the provider hears of it. Every instance that wants anything has a
// time at which it is looked at again, so a lost hint delays and never loses.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// Imager makes a release's disk available; providers.Catalog has it.
type Imager interface {
	EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error
}

// Policy is what the operator decided about machines.
type Policy struct {
	Installation providers.InstallationID
	// ControlPlane and ControlPlaneSPKI are what machines dial and expect.
	ControlPlane     string
	ControlPlaneSPKI attest.Digest
	Region           string
	Size             string
	DataBytes        int64
	// Release is what new machines are made from; zero for the newest.
	Release attest.ReleaseDigest
	// Machines is the cap.
	Machines int
	// Repairs is how many restarts an instance gets before it has failed.
	Repairs int
	Limits  orchestrator.Limits
	// HeartbeatLost is how long a ready machine may be silent.
	HeartbeatLost time.Duration
	// OrphanGrace is how long a resource must be nobody's before it goes.
	OrphanGrace time.Duration
}

// Parts are what a Reconciler is made from; all are needed.
type Parts struct {
	Store    store.Store
	Queue    store.Queue
	Machines providers.Machines
	Images   Imager
	Clock    func() time.Time
	Random   io.Reader
	Logger   *zap.Logger
	Trap     failpoint.Trap
	Policy   Policy
}

const (
	// maxSteps bounds what one hint can make happen; the rest is taken up by
	// the next look.
	maxSteps = 32
	// How soon an instance is looked at again where nothing will say so.
	pollSoon  = time.Second
	pollReady = 10 * time.Second
	// wellFor is how long a machine must have been ready for its restarts to
	// be forgiven.
	wellFor = 10 * time.Minute
	// backoffMax caps the pause after refusals in a row.
	backoffMax = time.Minute
)

// Reconciler owns the state of instances: nothing else moves them on.
type Reconciler struct {
	Parts
	started time.Time
	images  singleflight.Group

	mu sync.Mutex
	// active holds the instances under way; true where another hint came in
	// meanwhile. queued holds those that Tick left hints for. Guarded by mu.
	active map[orchestrator.InstanceID]bool
	queued map[orchestrator.InstanceID]bool
	// present are the releases whose image this process has seen at the
	// provider. Guarded by mu.
	present map[attest.ReleaseDigest]bool
	// suspects are resources that were nobody's when first seen. Guarded by mu.
	suspects map[providers.MachineID]time.Time
}

// New makes a Reconciler.
func New(p Parts) *Reconciler {
	return &Reconciler{
		Parts:    p,
		started:  p.Clock(),
		active:   make(map[orchestrator.InstanceID]bool),
		queued:   make(map[orchestrator.InstanceID]bool),
		present:  make(map[attest.ReleaseDigest]bool),
		suspects: make(map[providers.MachineID]time.Time),
	}
}

// Reconcile looks at one instance until nothing is due. Looking twice at once
// is harmless: the second look becomes another round of the first.
func (r *Reconciler) Reconcile(ctx context.Context, id orchestrator.InstanceID) error {
	if !r.claim(id) {
		return nil
	}
	for range maxSteps {
		due, err := r.step(ctx, id)
		if errors.Is(err, orchestrator.ErrStale) {
			continue
		}
		if err != nil {
			r.abandon(id)
			return fmt.Errorf("reconciling instance %s: %w", id, err)
		}
		if !due && r.finish(id) {
			return nil
		}
	}
	r.abandon(id)
	return nil
}

func (r *Reconciler) claim(id orchestrator.InstanceID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.queued, id)
	_, busy := r.active[id]
	r.active[id] = busy
	return !busy
}

// finish ends a look unless another hint came in since it began.
func (r *Reconciler) finish(id orchestrator.InstanceID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active[id] {
		r.active[id] = false
		return false
	}
	delete(r.active, id)
	return true
}

func (r *Reconciler) abandon(id orchestrator.InstanceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.active, id)
}

// step is one look at of one instance.
type step struct {
	orchestrator.Instance
	now    time.Time
	limits orchestrator.Limits
	events []orchestrator.Event
}

func (t *step) enter(s orchestrator.State, reason string) {
	t.events = append(t.events, t.Enter(s, reason, t.now, t.limits))
}

func (t *step) again(in time.Duration) { t.NextAt = t.now.Add(in) }

// step reports whether anything was due.
func (r *Reconciler) step(ctx context.Context, id orchestrator.InstanceID) (bool, error) {
	t := &step{now: r.Clock(), limits: r.Policy.Limits}
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		t.Instance, err = v.Instance(id)
		return err
	})
	if err != nil {
		return false, err
	}
	if t.NextAt.IsZero() || t.NextAt.After(t.now) {
		return false, nil
	}
	if t.State == orchestrator.StateWaiting && t.Desired == orchestrator.Present {
		return true, r.admit(ctx, t)
	}
	if err := r.act(ctx, t); err != nil {
		return false, err
	}
	return true, r.persist(ctx, t)
}

func (r *Reconciler) persist(ctx context.Context, t *step) error {
	err := r.Store.Update(ctx, func(tx store.Tx) error { return write(tx, t) })
	if err != nil {
		return err
	}
	r.logEvents(t)
	return nil
}

// logEvents logs what is now on the disk.
func (r *Reconciler) logEvents(t *step) {
	for _, e := range t.events {
		r.Logger.Info("instance moved", zap.String("instance", string(t.ID)),
			zap.String("from", string(e.From)), zap.String("to", string(e.To)), zap.String("reason", e.Reason))
	}
	t.events = nil
}

func write(tx store.Tx, t *step) error {
	// What Replace raises must not stay raised when the transaction fails.
	i := t.Instance
	if err := tx.Replace(&i); err != nil {
		return err
	}
	for _, e := range t.events {
		if err := tx.Note(e); err != nil {
			return err
		}
	}
	t.Version = i.Version
	return nil
}

// act does what the state asks for.
func (r *Reconciler) act(ctx context.Context, t *step) error {
	if t.Desired == orchestrator.Absent && t.State != orchestrator.StateDeleting && t.State != orchestrator.StateDeleted {
		t.enter(orchestrator.StateDeleting, "deletion requested")
		return nil
	}
	if !t.Deadline.IsZero() && t.now.After(t.Deadline) {
		r.overdue(t)
		return nil
	}
	switch t.State {
	case orchestrator.StateRequested:
		return r.requested(ctx, t)
	case orchestrator.StateCreating:
		return r.creating(ctx, t)
	case orchestrator.StateBooting, orchestrator.StateEnrolling:
		return r.booting(ctx, t)
	case orchestrator.StateReady, orchestrator.StateQuarantined:
		return r.serving(ctx, t)
	case orchestrator.StateStopped:
		t.enter(orchestrator.StateBooting, "the control plane is back")
		return nil
	case orchestrator.StateFailed:
		return r.failed(ctx, t)
	case orchestrator.StateDeleting:
		return r.deleting(ctx, t)
	default:
		t.NextAt = time.Time{}
		return nil
	}
}

// overdue ends a state that lasted too long. A machine that does not come up
// is restarted before it is given up.
func (r *Reconciler) overdue(t *step) {
	last := fmt.Sprintf("%s for more than %s (%s)", t.State, t.Deadline.Sub(t.Since).Round(time.Second), t.Reason)
	switch {
	case t.State == orchestrator.StateDeleting:
		t.enter(orchestrator.StateDeleting, "still trying: "+last)
	case t.Created && t.Repairs == 0:
		r.restart(t, last)
	default:
		t.enter(orchestrator.StateFailed, last)
	}
}

// restart asks for a power cycle, and counts it.
func (r *Reconciler) restart(t *step, reason string) {
	t.Repairs++
	t.Cycling = true
	t.Enrolment = t.Enrolment.NextBoot()
	t.enter(orchestrator.StateBooting, "restarting it: "+reason)
}

// refused takes in a provider's refusal. It fails only where the context
// ended, since that says nothing about the provider.
func (r *Reconciler) refused(ctx context.Context, t *step, doing string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	}
	code := providers.CodeOf(err)
	reason := fmt.Sprintf("%s: %v", doing, err)
	r.Logger.Warn("provider refused", zap.String("instance", string(t.ID)), zap.String("doing", doing),
		zap.String("code", string(code)), zap.Error(err))
	switch code {
	case providers.CodeInvalid, providers.CodeConflict, providers.CodeUnimplemented:
		if t.State != orchestrator.StateDeleting && t.State != orchestrator.StateFailed {
			t.enter(orchestrator.StateFailed, reason)
			return nil
		}
	}
	t.Reason = reason
	t.Attempts++
	t.again(backoff(t.Attempts, err))
	return nil
}

func backoff(attempts int, err error) time.Duration {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == providers.CodeThrottled && e.RetryAfter > 0 {
		return min(e.RetryAfter, backoffMax)
	}
	return min(time.Second<<min(attempts-1, 16), backoffMax)
}
