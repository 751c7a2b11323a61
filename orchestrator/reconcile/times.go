package reconcile

import (
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
)

// stay is what this process knows of an instance's stay in a state, by the
// steady clock: the wall clock may be set at any moment.
type stay struct {
	// entries tells this stay from any other.
	entries uint64
	// began is when the stay began, reckoned from how long it had lasted when
	// this process first saw it.
	began time.Duration
	// heard is when this process saw a heartbeat last, and seen the stamp by
	// which it knew it for a new one.
	heard time.Duration
	seen  time.Time
}

// times answers how long an instance has been in its state, and how long its
// machine has said nothing that this process could have heard.
func (r *Reconciler) times(i orchestrator.Instance) (lasted, quiet time.Duration) {
	now := r.Steady()
	r.mu.Lock()
	defer r.mu.Unlock()
	s, known := r.stays[i.ID]
	if !known || s.entries != i.Entries {
		s = stay{entries: i.Entries, began: now - i.Lasted, heard: max(now-i.Lasted, r.started), seen: i.Enrolment.LastSeen}
	}
	if !i.Enrolment.LastSeen.Equal(s.seen) {
		s.heard, s.seen = now, i.Enrolment.LastSeen
	}
	if i.State == orchestrator.StateDeleted {
		delete(r.stays, i.ID)
	} else {
		r.stays[i.ID] = s
	}
	return now - s.began, now - s.heard
}
