package signup

import (
	"errors"
	"io"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// Result is what became of a request.
type Result string

// The results.
const (
	Created  Result = "created"
	Existing Result = "existing"
	Deleting Result = "deleting"
	Ignored  Result = "ignored"
	// Duplicate is a message that was taken in before.
	Duplicate Result = "duplicate"
)

// Outcome is the answer to a request. Reason explains one that changed nothing.
type Outcome struct {
	Result   Result                  `json:"result"`
	Instance orchestrator.InstanceID `json:"instance,omitempty"`
	Reason   string                  `json:"reason,omitempty"`
}

// Service takes signups and deletions, from webhooks and from operators, inside the
// transaction of whoever brings them.
type Service struct {
	Clock  func() time.Time
	Random io.Reader
}

// precision is the store's: times are compared as they will be read back.
const precision = time.Microsecond

// SignUp asks for an instance, by an event of the given time. Where the user
// has one, it stays where it is. Errors are the store's and those of Random.
func (d Service) SignUp(tx store.Tx, user orchestrator.UserID, wish orchestrator.Wish, at time.Time) (Outcome, error) {
	at = at.Truncate(precision)
	void, err := tx.Tombstone(user)
	if err != nil {
		return Outcome{}, err
	}
	if !at.After(void) {
		return Outcome{Result: Ignored, Reason: "the user was deleted at that time or later"}, nil
	}
	outcome, err := d.open(tx, user, wish, at)
	if !errors.Is(err, orchestrator.ErrConflict) {
		return outcome, err
	}
	have, err := tx.InstanceOfUser(user)
	if err != nil {
		return Outcome{}, err
	}
	return d.known(tx, have, at)
}

// known keeps the latest time at which an existing instance was asked for, so
// that a deletion from before it, arriving late, does nothing.
func (d Service) known(tx store.Tx, have orchestrator.Instance, at time.Time) (Outcome, error) {
	outcome := Outcome{Result: Existing, Instance: have.ID, Reason: "the user has an instance"}
	if !at.After(have.SignedUp) {
		return outcome, nil
	}
	have.SignedUp = at
	return outcome, tx.Replace(&have)
}

// open makes an instance; ErrConflict where the user has one.
func (d Service) open(tx store.Tx, user orchestrator.UserID, wish orchestrator.Wish, at time.Time) (Outcome, error) {
	id, err := orchestrator.NewID(d.Random)
	if err != nil {
		return Outcome{}, err
	}
	now := d.Clock()
	i := orchestrator.Instance{
		ID: orchestrator.InstanceID(id), User: user, SignedUp: at, Wish: wish, CreatedAt: now,
		Desired: orchestrator.Present, Generation: 1,
	}
	event := i.Enter(orchestrator.StateWaiting, "signed up", now, orchestrator.Limits{})
	if err := tx.Insert(i); err != nil {
		return Outcome{}, err
	}
	if err := tx.Note(event); err != nil {
		return Outcome{}, err
	}
	return Outcome{Result: Created, Instance: i.ID}, tx.Enqueue(store.Admission)
}

// Delete asks for the end of a user's instance, by an event of the given time.
// Errors are the store's.
func (d Service) Delete(tx store.Tx, user orchestrator.UserID, at time.Time) (Outcome, error) {
	at = at.Truncate(precision)
	if err := tx.PutTombstone(user, at); err != nil {
		return Outcome{}, err
	}
	have, err := tx.InstanceOfUser(user)
	if errors.Is(err, orchestrator.ErrNotFound) {
		return Outcome{Result: Ignored, Reason: "the user has no instance"}, nil
	}
	if err != nil {
		return Outcome{}, err
	}
	if at.Before(have.SignedUp) {
		return Outcome{Result: Ignored, Reason: "the user signed up again after that"}, nil
	}
	return d.away(tx, have)
}

// Remove asks for the end of one instance, for an operator. Errors are
// orchestrator.ErrNotFound and the store's.
func (d Service) Remove(tx store.Tx, id orchestrator.InstanceID) (Outcome, error) {
	have, err := tx.Instance(id)
	if err != nil {
		return Outcome{}, err
	}
	if have.User != "" {
		// Whatever the source's clock said when it signed the user up, that
		// signup is now void.
		upTo := d.Clock()
		if have.SignedUp.After(upTo) {
			upTo = have.SignedUp
		}
		if err := tx.PutTombstone(have.User, upTo); err != nil {
			return Outcome{}, err
		}
	}
	return d.away(tx, have)
}

func (d Service) away(tx store.Tx, i orchestrator.Instance) (Outcome, error) {
	outcome := Outcome{Result: Deleting, Instance: i.ID}
	if !i.SetDesired(orchestrator.Absent) {
		outcome.Reason = "it was being deleted already"
		return outcome, nil
	}
	if err := tx.Replace(&i); err != nil {
		return Outcome{}, err
	}
	return outcome, tx.Enqueue(i.ID)
}
