// Package reconcile brings each instance from where it is to where it should
// be, one step at a time.
//
// Invariants: a step reads what is desired and what the provider shows, makes
// at most one call that changes something, and persists over the version that
// it read, if there is anything to persist; it can die anywhere and be taken
// again. A machine's id is stored before the provider hears of it. What is
// looked at follows from the rows alone: a process that starts looks at every
// row that is not at rest. How long something has lasted is told by a clock
// that is never set.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/backoff"
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
	// Places are where machines are made, in the order in which they are
	// tried; Plans are those of signups that name one.
	Places []Place
	Plans  map[string][]Place
	// Provider is that of machines from before there were several.
	Provider  string
	DataBytes int64
	// Release is what new machines are made from; zero for the newest.
	Release attest.ReleaseDigest
	// Withdrawn says that nothing new is made from a release; nil where no log says
	// so of any.
	Withdrawn func(attest.ReleaseDigest) bool
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
	Store     store.Store
	Queue     store.Queue
	Providers map[string]Provider
	// Watchers are those of the providers that tell of changes, Snapshotters
	// those that copy data disks, and Attachers those that give a machine the
	// disk of another.
	Watchers     map[string]providers.Watcher
	Snapshotters map[string]providers.Snapshotter
	Attachers    map[string]providers.DataAttacher
	// Clock is the wall clock, for what people read. Steady is time that only
	// goes on, from any moment before the process began its work.
	Clock  func() time.Time
	Steady func() time.Duration
	Random io.Reader
	Logger *zap.Logger
	Trap   failpoint.Trap
	Policy Policy
}

const (
	// maxSteps bounds what one hint can make happen; the rest is taken up by
	// the next look.
	maxSteps = 32
	// How soon an instance is looked at again where nothing will say so: while
	// its power changes, while it boots, while it serves.
	pollSoon    = time.Second
	pollBooting = 5 * time.Second
	pollReady   = 10 * time.Second
	// wellFor is how long a machine must have been ready for its restarts to
	// be forgiven.
	wellFor = 10 * time.Minute
	// backoffMax caps the pause after refusals in a row.
	backoffMax = time.Minute
)

// Reconciler owns the state of instances: nothing else moves them on.
type Reconciler struct {
	Parts
	started time.Duration

	mu sync.Mutex
	// stays are the instances' stays in their states. Guarded by mu.
	stays map[orchestrator.InstanceID]stay
	// obstacle says why those who wait are not let in; empty where none does.
	// Guarded by mu.
	obstacle string
	// present are the releases whose image this process has seen at the
	// provider. Guarded by mu.
	present map[image]bool
	// uploads are those under way, and those that failed and of which no look
	// has heard yet. Guarded by mu.
	uploads map[image]*upload
	// full is until when places have no room, by the steady clock; one without
	// a size, or a region, stands for all there. slow is until when providers
	// do not want to be called. Guarded by mu.
	full map[Place]time.Duration
	slow map[string]time.Duration
	// suspects are resources that were nobody's when first seen, by the steady
	// clock. Guarded by mu.
	suspects map[suspect]time.Duration
}

// New makes a Reconciler.
func New(p Parts) *Reconciler {
	return &Reconciler{
		Parts:    p,
		started:  p.Steady(),
		stays:    make(map[orchestrator.InstanceID]stay),
		present:  make(map[image]bool),
		uploads:  make(map[image]*upload),
		full:     make(map[Place]time.Duration),
		slow:     make(map[string]time.Duration),
		suspects: make(map[suspect]time.Duration),
	}
}

// Reconcile brings one instance as far as it goes now, or lets in who waits,
// and answers after how long to look again, or store.Never. It must not be
// called for the same instance twice at once. Errors are the store's; the
// provider's are in the row.
func (r *Reconciler) Reconcile(ctx context.Context, id orchestrator.InstanceID) (time.Duration, error) {
	if id == store.Admission {
		return store.Never, r.admit(ctx)
	}
	var t *step
	for range maxSteps {
		if t == nil {
			var err error
			if t, err = r.read(ctx, id); err != nil {
				return store.Never, fmt.Errorf("reconciling instance %s: %w", id, err)
			}
		}
		err := r.take(ctx, t)
		switch {
		case errors.Is(err, orchestrator.ErrStale):
			t = nil
		case err != nil:
			return store.Never, fmt.Errorf("reconciling instance %s: %w", id, err)
		case t.next != 0:
			return t.next, nil
		}
	}
	return pollSoon, nil
}

// step is one step of one instance, and the same for the next one.
type step struct {
	orchestrator.Instance
	now    time.Time
	limits orchestrator.Limits
	events []orchestrator.Event
	// lasted is how long the instance has been in its state; quiet how long
	// its machine has said nothing that this process could have heard.
	lasted, quiet time.Duration
	// next is after how long to look again: 0 for at once.
	next time.Duration
	// announced says that this look has written down, and not yet done, that
	// the provider is asked for the machine.
	announced bool
	// held says that the row, as it was read or written last, holds a place.
	held bool
}

func (t *step) enter(s orchestrator.State, reason string) {
	t.events = append(t.events, t.Enter(s, reason, t.now, t.limits))
	t.lasted, t.next = 0, 0
}

func (t *step) again(in time.Duration) { t.next = in }

// rest is for an instance that only a request can move on.
func (t *step) rest() { t.next = store.Never }

func (r *Reconciler) read(ctx context.Context, id orchestrator.InstanceID) (*step, error) {
	t := &step{limits: r.Policy.Limits}
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		t.Instance, err = v.Instance(id)
		return err
	})
	t.held = t.State.HoldsPlace()
	return t, err
}

// take takes one step, and persists it if it changed anything.
func (r *Reconciler) take(ctx context.Context, t *step) error {
	t.now, t.next = r.Clock(), 0
	t.lasted, t.quiet = r.times(t.Instance)
	before := t.Instance
	if err := r.act(ctx, t); err != nil {
		return err
	}
	// A process that dies often must not begin a limit anew each time.
	overtime := t.Limit > 0 && t.lasted-t.Lasted >= t.Limit/8
	if !overtime && reflect.DeepEqual(before, t.Instance) {
		return nil
	}
	return r.persist(ctx, t)
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
	// What is raised here must not stay raised when the transaction fails.
	i := t.Instance
	i.Lasted = t.lasted
	if err := tx.Replace(&i); err != nil {
		return err
	}
	for _, e := range t.events {
		if err := tx.Note(e); err != nil {
			return err
		}
	}
	// Whoever is deleted may have kept the same user's next one waiting.
	if freed := t.held && !i.State.HoldsPlace(); freed || i.State == orchestrator.StateDeleted {
		if err := tx.Enqueue(store.Admission); err != nil {
			return err
		}
	}
	t.held = i.State.HoldsPlace()
	t.Lasted, t.Version = i.Lasted, i.Version
	return nil
}

// act does what the state asks for.
func (r *Reconciler) act(ctx context.Context, t *step) error {
	if t.Desired == orchestrator.Absent && t.State != orchestrator.StateDeleting && t.State != orchestrator.StateDeleted {
		t.enter(orchestrator.StateDeleting, "deletion requested")
		if t.Machine == "" {
			t.gone()
		}
		return nil
	}
	if t.Limit > 0 && t.lasted > t.Limit {
		r.overdue(t)
		return nil
	}
	switch t.State {
	case orchestrator.StateWaiting:
		// Whoever waits is let in by the order of all who do.
		t.rest()
		return r.admit(ctx)
	case orchestrator.StateRequested:
		return r.requested(ctx, t)
	case orchestrator.StateCreating:
		return r.creating(ctx, t)
	case orchestrator.StateBooting, orchestrator.StateEnrolling:
		return r.booting(ctx, t)
	case orchestrator.StateReady, orchestrator.StateAwaitingOwner, orchestrator.StateQuarantined:
		return r.serving(ctx, t)
	case orchestrator.StateReplacing:
		return r.replacing(ctx, t)
	case orchestrator.StateStopped:
		t.enter(orchestrator.StateBooting, "the control plane is back")
		return nil
	case orchestrator.StateFailed:
		return r.failed(ctx, t)
	case orchestrator.StateDeleting:
		return r.deleting(ctx, t)
	default:
		t.rest()
		return nil
	}
}

// overdue ends a state that lasted too long. A machine that does not come up
// is restarted before it is given up.
func (r *Reconciler) overdue(t *step) {
	last := fmt.Sprintf("%s for more than %s (%s)", t.State, t.Limit.Round(time.Second), t.Reason)
	switch {
	case t.State == orchestrator.StateDeleting, t.State == orchestrator.StateReplacing:
		t.enter(t.State, "still trying: "+last)
	case t.Created && t.Repairs == 0:
		r.restart(t, last)
	default:
		t.enter(orchestrator.StateFailed, last)
	}
}

// restart asks for a power cycle, and counts it.
func (r *Reconciler) restart(t *step, reason string) {
	t.Repairs++
	r.cycle(t, reason)
}

func (r *Reconciler) cycle(t *step, reason string) {
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
	r.pace(t.Plan.Provider, err)
	reason := fmt.Sprintf("%s: %s", doing, providers.Explain(err))
	r.Logger.Warn("provider refused", zap.String("instance", string(t.ID)), zap.String("doing", doing),
		zap.String("code", string(code)), zap.String("hint", providers.HintOf(err)), zap.Error(err))
	switch code {
	case providers.CodeInvalid, providers.CodeConflict, providers.CodeUnimplemented:
		if t.State != orchestrator.StateDeleting && t.State != orchestrator.StateFailed {
			t.enter(orchestrator.StateFailed, reason)
			return nil
		}
	}
	t.Reason = reason
	t.Attempts++
	t.again(pause(t.Attempts, err))
	return nil
}

func pause(attempts int, err error) time.Duration {
	var e *providers.Error
	if errors.As(err, &e) && e.Code == providers.CodeThrottled && e.RetryAfter > 0 {
		return min(e.RetryAfter, backoffMax)
	}
	return backoff.Pause(attempts, time.Second, backoffMax)
}
