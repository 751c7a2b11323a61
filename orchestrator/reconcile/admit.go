package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// admitAtOnce bounds how long letting in holds the others' transactions up.
const admitAtOnce = 32

// Obstacle says what keeps the instances in a state there, which is the same
// for all of them and in no row: why those who wait are not let in, and how far
// the image is that those who were need. Empty where nothing is known.
func (r *Reconciler) Obstacle(s orchestrator.State) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s {
	case orchestrator.StateWaiting:
		return r.obstacle
	case orchestrator.StateRequested:
		for _, u := range r.uploads {
			if total := u.total.Load(); total > 0 {
				return fmt.Sprintf("the image is being made available: %d of %d bytes", u.ready.Load(), total)
			}
		}
	}
	return ""
}

// admit lets in who waits, first come first served, as long as there is room.
func (r *Reconciler) admit(ctx context.Context) error {
	for {
		obstacle, err := r.roomFor(ctx)
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.obstacle = obstacle
		r.mu.Unlock()
		if obstacle != "" {
			return nil
		}
		n, err := r.admitSome(ctx)
		if n == 0 || err != nil {
			return err
		}
	}
}

// roomFor says why nobody can be let in; empty where somebody can. It only
// reads, so that asking in vain costs no transaction.
func (r *Reconciler) roomFor(ctx context.Context) (obstacle string, err error) {
	return obstacle, r.Store.View(ctx, func(v store.Reader) error {
		taken, err := v.Places()
		if err != nil {
			return err
		}
		if taken >= r.Policy.Machines {
			obstacle = fmt.Sprintf("the cap of %d machines is reached", r.Policy.Machines)
			return nil
		}
		if _, err = r.release(v); errors.Is(err, orchestrator.ErrNotFound) {
			obstacle = "there is no release to make it from"
			return nil
		}
		return err
	})
}

// admitSome gives places to the first who wait. The places are counted in the
// transaction that gives them away, so the cap holds whatever else happens.
func (r *Reconciler) admitSome(ctx context.Context) (int, error) {
	var admitted []*step
	err := r.Store.Update(ctx, func(tx store.Tx) error {
		taken, err := tx.Places()
		if err != nil {
			return err
		}
		room := min(r.Policy.Machines-taken, admitAtOnce)
		if room <= 0 {
			return nil
		}
		first, err := tx.Admissible(room)
		if err != nil {
			return err
		}
		for _, i := range first {
			t := &step{Instance: i, now: r.Clock(), limits: r.Policy.Limits}
			t.enter(orchestrator.StateRequested, "there is room for it")
			if err := write(tx, t); err != nil {
				return err
			}
			admitted = append(admitted, t)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("letting instances in: %w", err)
	}
	for _, t := range admitted {
		r.logEvents(t)
		r.Queue.Add(t.ID)
	}
	return len(admitted), nil
}
