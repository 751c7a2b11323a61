package orchestrator

import (
	"slices"
	"time"
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
	StateQuarantined, StateStopped, StateFailed, StateDeleting, StateDeleted,
}

// Transient reports whether a state must end by a deadline.
func (s State) Transient() bool {
	return slices.Contains([]State{
		StateRequested, StateCreating, StateBooting, StateEnrolling, StateStopped, StateDeleting,
	}, s)
}

// HoldsPlace reports whether an instance in this state counts against the cap:
// it has a machine, may have one or is about to.
func (s State) HoldsPlace() bool { return s != StateWaiting && s != StateDeleted }

// Enter moves the instance to a state and returns the event that says so.
// limit is how long a transient state may last.
func (i *Instance) Enter(s State, reason string, now time.Time, limit time.Duration) Event {
	e := Event{At: now, Instance: i.ID, From: i.State, To: s, Reason: reason}
	i.State, i.Reason, i.Since = s, reason, now
	i.Deadline = time.Time{}
	if s.Transient() {
		i.Deadline = now.Add(limit)
	}
	i.Attempts = 0
	i.NextAt = now
	return e
}

// Wish changes what should be. It reports whether that was news.
func (i *Instance) Wish(d Desired, now time.Time) bool {
	if i.Desired == d {
		return false
	}
	i.Desired = d
	i.Generation++
	i.NextAt = now
	return true
}
