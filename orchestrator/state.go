package orchestrator

import (
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/providers"
)

// State is where an instance stands.
type State string

// The states, in the order in which a machine usually goes through them.
const (
	// StateWaiting needs something that only an operator or another
	// instance's end brings: room under the cap, a release.
	StateWaiting   State = "waiting"
	StateRequested State = "requested"
	StateCreating  State = "creating"
	StateBooting   State = "booting"
	StateEnrolling State = "enrolling"
	StateReady     State = "ready"
	// StateReplacing takes the machine away and keeps its data disk, for
	// another.
	StateReplacing State = "replacing"
	// StateAwaitingOwner is a machine whose data only its owner's key opens. It
	// is routed to: nobody else can bring the key.
	StateAwaitingOwner State = "awaiting-owner"
	// StateQuarantined is a machine that lives and proves something else than
	// it should. It is shown and never routed to.
	StateQuarantined State = "quarantined"
	// StateStopped was powered off together with the control plane.
	StateStopped State = "stopped"
	// StateFailed is powered off and waits for a retry.
	StateFailed   State = "failed"
	StateDeleting State = "deleting"
	StateDeleted  State = "deleted"
)

// States lists every state in display order.
var States = [...]State{
	StateWaiting, StateRequested, StateCreating, StateBooting, StateEnrolling, StateReady,
	StateReplacing, StateAwaitingOwner, StateQuarantined, StateStopped, StateFailed, StateDeleting, StateDeleted,
}

// HoldsPlace reports whether an instance in this state counts against the cap:
// it has a machine, may have one or is about to.
func (s State) HoldsPlace() bool { return s != StateWaiting && s != StateDeleted }

// Limits are how long each state may last that must end.
type Limits struct {
	Requested time.Duration
	Creating  time.Duration
	Booting   time.Duration
	Enrolling time.Duration
	Deleting  time.Duration
}

func (l Limits) of(s State) time.Duration {
	return map[State]time.Duration{
		StateRequested: l.Requested,
		StateCreating:  l.Creating,
		StateBooting:   l.Booting,
		StateEnrolling: l.Enrolling,
		StateReplacing: l.Deleting,
		StateDeleting:  l.Deleting,
	}[s]
}

// Enter moves the instance to a state and returns the event that says so. Now
// is the wall clock's.
func (i *Instance) Enter(s State, reason string, now time.Time, limits Limits) Event {
	e := Event{At: now, Instance: i.ID, From: i.State, To: s, Reason: reason}
	i.State, i.Reason, i.Since = s, reason, now
	i.Entries++
	i.Limit, i.Lasted = limits.of(s), 0
	i.Attempts = 0
	return e
}

// Advance moves the instance on by what its machine has shown, which needs no
// look at the provider, and returns the event that says so; ok is false where
// nothing follows. A machine whose power is being cycled has shown nothing yet.
func (i *Instance) Advance(now time.Time, limits Limits) (e Event, ok bool) {
	shown := i.Enrolment
	enter := func(s State, reason string) (Event, bool) { return i.Enter(s, reason, now, limits), true }
	rising := i.State == StateBooting || i.State == StateEnrolling
	judged := shown.Judged && i.Endpoint != ""
	up := i.State == StateReady || i.State == StateAwaitingOwner
	switch {
	case rising && i.Cycling:
		return e, false
	case rising && judged && !shown.Accepted, up && !shown.Accepted && shown.Judged:
		return enter(StateQuarantined, shown.Verdict)
	case shown.AwaitingOwner && shown.Accepted && (rising && judged || i.State == StateReady || i.State == StateQuarantined):
		return enter(StateAwaitingOwner, "its owner has to hand it the key of the data: shed recover")
	case rising && judged && shown.Healthy, i.State == StateQuarantined && shown.Accepted && shown.Healthy,
		i.State == StateAwaitingOwner && shown.Healthy:
		return enter(StateReady, shown.Verdict)
	case i.State == StateBooting && judged, i.State == StateQuarantined && shown.Accepted:
		return enter(StateEnrolling, "accepted, and not yet serving")
	case i.State == StateBooting && !shown.ChallengedAt.IsZero():
		return enter(StateEnrolling, "the machine has introduced itself")
	}
	return e, false
}

// SetDesired changes what should be. It reports whether that was news.
func (i *Instance) SetDesired(d Desired) bool {
	if i.Desired == d {
		return false
	}
	i.Desired = d
	i.Generation++
	return true
}

// Retry gives an instance that came to rest another chance: ErrConflict where
// it has not, or where it shall go.
func (i *Instance) Retry(now time.Time, limits Limits) (Event, error) {
	const reason = "a retry was asked for"
	switch {
	case i.Desired == Absent:
		return Event{}, fmt.Errorf("instance %s is being deleted: %w", i.ID, ErrConflict)
	case i.State == StateQuarantined:
		i.Cycling = true
		i.Enrolment = i.Enrolment.NextBoot()
	case i.State != StateFailed:
		return Event{}, fmt.Errorf("instance %s is %s, neither failed nor quarantined: %w", i.ID, i.State, ErrConflict)
	}
	i.Repairs = 0
	if i.DataOf != "" && (!i.Created || i.DataOf == i.Machine) {
		return i.Enter(StateReplacing, reason, now, limits), nil
	}
	if !i.Created {
		return i.Enter(StateRequested, reason, now, limits), nil
	}
	return i.Enter(StateBooting, reason, now, limits), nil
}

// Replace takes the machine away for another, which gets its data disk; the data
// opens once its owner has handed that machine the key. The error is ErrConflict
// where there is no machine, or one is being replaced already.
func (i *Instance) Replace(now time.Time, limits Limits) (Event, error) {
	switch {
	case i.Desired == Absent:
		return Event{}, fmt.Errorf("instance %s is being deleted: %w", i.ID, ErrConflict)
	case i.DataOf != "":
		return Event{}, fmt.Errorf("instance %s gets another machine already: %w", i.ID, ErrConflict)
	case !i.Created || i.State == StateDeleted:
		return Event{}, fmt.Errorf("instance %s has no machine yet: %w", i.ID, ErrConflict)
	}
	i.DataOf, i.Restoring, i.Cycling = i.Machine, "", false
	return i.Enter(StateReplacing, "its data disk is kept for another machine", now, limits), nil
}

// Restore has the data disk set back to a snapshot, for which the machine is
// switched off and on. The error is ErrConflict where there is no machine that
// could be.
func (i *Instance) Restore(s providers.SnapshotID, now time.Time, limits Limits) (Event, error) {
	switch {
	case i.Desired == Absent:
		return Event{}, fmt.Errorf("instance %s is being deleted: %w", i.ID, ErrConflict)
	case !i.Created || i.State == StateDeleted:
		return Event{}, fmt.Errorf("instance %s has no machine yet: %w", i.ID, ErrConflict)
	case i.DataOf != "":
		return Event{}, fmt.Errorf("instance %s gets another machine: %w", i.ID, ErrConflict)
	case i.Restoring != "" && i.Restoring != s:
		return Event{}, fmt.Errorf("instance %s is being set back to another snapshot: %w", i.ID, ErrConflict)
	}
	i.Restoring, i.Cycling = s, true
	i.Enrolment = i.Enrolment.NextBoot()
	return i.Enter(StateBooting, "setting it back to snapshot "+string(s), now, limits), nil
}
