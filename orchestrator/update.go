package orchestrator

import (
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
)

// Update is the release that an instance's machine was offered last, and how far
// the machine says that it is with it.
type Update struct {
	Release attest.ReleaseDigest `json:"release,omitzero"`
	// Attempt counts the offers to the instance, whatever became of them.
	Attempt uint64         `json:"attempt,omitempty"`
	Step    api.UpdateStep `json:"step,omitempty"`
	// Reason is there where Step is an end that is none of the new release's.
	Reason api.UpdateReason `json:"reason,omitempty"`
	// Heard says that the machine has named the offer, or fetched of it.
	Heard bool `json:"heard,omitempty"`
	// TakenBack says that the offer does not stand any more. A machine that had begun
	// may still end up on the release.
	TakenBack bool `json:"taken_back,omitempty"`
	// Restarted says that the restart which ends a trial that hangs was made.
	Restarted bool `json:"restarted,omitempty"`
	// Told is how many of the steps stand in the history: a machine that goes to and
	// fro fills it with no more than maxTold.
	Told uint64 `json:"told,omitempty"`
	// Before is an earlier release that the machine had heard of when it was
	// offered this one: until it names this one it may be on its way there.
	Before attest.ReleaseDigest `json:"before,omitzero"`
}

// maxTold is far above what a machine says of one offer.
const maxTold = 32

// Stands says that the machine is still to hear of the offer, or to go on with it.
func (u Update) Stands() bool { return !u.Release.IsZero() && !u.TakenBack && !u.Step.Ended() }

// Trying says that the machine has said that it goes on to the offered release, for
// which it restarts, and not yet what became of it.
func (u Update) Trying() bool { return u.Step.UnderWay() }

// Runs is the release that the instance's machine has come to run: the one that
// it was made from, or one that it was updated to since.
func (i Instance) Runs() attest.ReleaseDigest {
	if !i.Updated.IsZero() {
		return i.Updated
	}
	return i.Plan.Release
}

// MayRun are the releases that the machine may show without being another than it
// should, the one that it runs first.
func (i Instance) MayRun() []attest.ReleaseDigest {
	all := []attest.ReleaseDigest{i.Runs()}
	open := []attest.ReleaseDigest{i.Update.Before}
	if i.Update.Heard && !i.Update.Step.Ended() {
		open = append(open, i.Update.Release)
	}
	for _, d := range open {
		if !d.IsZero() && !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	return all
}

// Proven is the release that the machine showed when it enrolled; the one that it
// runs while it has not.
func (i Instance) Proven() attest.ReleaseDigest {
	if !i.Enrolment.Release.IsZero() {
		return i.Enrolment.Release
	}
	return i.Runs()
}

// Offer offers a release to the instance's machine; the release that it runs takes
// the offer of another back. ok is false where that changes nothing, and else e says
// what was done. The error is ErrConflict where there is no machine, or one that is
// on its way to another release.
func (i *Instance) Offer(r Release, now time.Time) (e Event, ok bool, err error) {
	if err := i.mayBeOffered(r.Digest); err != nil {
		return e, false, err
	}
	u, runs := i.Update, i.Runs() == r.Digest
	switch {
	case u.Stands() && u.Release == r.Digest:
		return e, false, nil
	case u.Stands() && runs:
		e, ok = i.TakeBack(u.Release, now)
		return e, ok, nil
	case runs:
		return e, false, nil
	}
	i.offer(r.Digest)
	return i.note(now, fmt.Sprintf("release %s (%.16s) is offered to its machine", r.Version, r.Digest)), true, nil
}

// OfferChange offers the change of Secure Boot's variables that the release which the
// instance's machine runs has; one that has made it says so at once. It is as Offer
// where that release is not the one, or another offer stands.
func (i *Instance) OfferChange(r Release, now time.Time) (e Event, ok bool, err error) {
	if i.Runs() != r.Digest || i.Update.Stands() {
		return i.Offer(r, now)
	}
	if err := i.mayBeOffered(r.Digest); err != nil {
		return e, false, err
	}
	i.offer(r.Digest)
	return i.note(now, fmt.Sprintf("the change of Secure Boot's variables of release %s (%.16s) is offered to its machine", r.Version, r.Digest)), true, nil
}

func (i *Instance) offer(d attest.ReleaseDigest) {
	u := i.Update
	i.Update = Update{Release: d, Attempt: u.Attempt + 1, Before: u.Before}
	if u.Heard && !u.Step.Ended() {
		i.Update.Before = u.Release
	}
}

func (i *Instance) mayBeOffered(d attest.ReleaseDigest) error {
	u := i.Update
	switch {
	case i.Desired == Absent:
		return fmt.Errorf("instance %s is being deleted: %w", i.ID, ErrConflict)
	case i.DataOf != "":
		return fmt.Errorf("instance %s gets another machine: %w", i.ID, ErrConflict)
	case !i.Created || i.State == StateDeleted:
		return fmt.Errorf("instance %s has no machine yet: %w", i.ID, ErrConflict)
	case u.Stands() && u.Trying() && u.Release != d:
		return fmt.Errorf("instance %s is on its way to release %s: %w", i.ID, u.Release, ErrConflict)
	}
	return nil
}

// TakeBack takes the offer of a release back, where it stands.
func (i *Instance) TakeBack(d attest.ReleaseDigest, now time.Time) (e Event, ok bool) {
	if i.Update.Release != d || !i.Update.Stands() {
		return e, false
	}
	i.Update.TakenBack = true
	return i.note(now, fmt.Sprintf("the offer of release %.16s is taken back", d)), true
}

// Report takes in how far the machine says that it is, and returns the events that
// say what is new. It is taken at its word for what it could not say to its own
// advantage: that it now runs a release only where it has enrolled with it.
func (i *Instance) Report(s api.UpdateStatus, now time.Time) (events []Event) {
	switch u := &i.Update; {
	case s.Release == u.Release && s.Attempt == u.Attempt:
		if u.Step.Ended() || s.Step == api.UpdateDone && !i.showed(u.Release) {
			return nil
		}
		return i.proceed(s, now)
	case s.Release == u.Before && !u.Before.IsZero() && s.Step.Ended():
		events = i.settle(u.Before, s.Step == api.UpdateDone, now)
		u.Before = attest.ReleaseDigest{}
	}
	return events
}

func (i *Instance) proceed(s api.UpdateStatus, now time.Time) []Event {
	u := &i.Update
	// Whoever is with this offer has come to an end with the one before.
	events := i.settle(u.Before, true, now)
	u.Before, u.Heard = attest.ReleaseDigest{}, true
	if s.Step == u.Step {
		return events
	}
	u.Step, u.Reason = s.Step, s.Reason
	if u.Told++; u.Told <= maxTold || u.Step.Ended() {
		events = append(events, i.note(now, u.describe()))
	}
	return append(events, i.settle(u.Release, s.Step == api.UpdateDone, now)...)
}

// settle makes a release that the machine has enrolled with, and stays with, the
// one that it runs.
func (i *Instance) settle(d attest.ReleaseDigest, stays bool, now time.Time) []Event {
	if !stays || d.IsZero() || !i.showed(d) || i.Runs() == d {
		return nil
	}
	i.Updated = d
	return []Event{i.note(now, fmt.Sprintf("the machine runs release %.16s", d))}
}

// showed says that the machine has enrolled with the release since it booted.
func (i *Instance) showed(d attest.ReleaseDigest) bool {
	return i.Enrolment.Accepted && i.Proven() == d
}

// note is an event that leaves the state as it is.
func (i *Instance) note(now time.Time, reason string) Event {
	return Event{At: now, Instance: i.ID, From: i.State, To: i.State, Reason: reason}
}

// describe says how far an update is, for the history.
func (u Update) describe() string {
	text := fmt.Sprintf("update to release %.16s: %s", u.Release, u.Step)
	if u.Reason != "" {
		text += " (" + string(u.Reason) + ")"
	}
	return text
}
