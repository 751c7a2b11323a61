package reconcile

import (
	"context"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// replacing takes a machine away and keeps its data disk, and then plans another
// at the same place: the disk is there.
func (r *Reconciler) replacing(ctx context.Context, t *step) error {
	machines := r.machines(t.Plan.Provider)
	if err := machines.Delete(ctx, t.DataOf, true); err != nil {
		err = r.refused(ctx, t, "taking the machine away from its disk", err)
		if t.State == orchestrator.StateFailed && t.DataOf == t.Machine {
			// It is not taken away: a retry is of this machine.
			t.DataOf = ""
		}
		return err
	}
	_, err := machines.Get(ctx, t.DataOf)
	switch {
	case providers.CodeOf(err) == providers.CodeNotFound:
		return r.replan(ctx, t)
	case err != nil:
		return r.refused(ctx, t, "seeing that the machine is gone", err)
	}
	t.Attempts++
	t.again(pause(t.Attempts, nil))
	return nil
}

// replan forgets the machine, and all that it had proved, for another.
func (r *Reconciler) replan(ctx context.Context, t *step) error {
	var rel orchestrator.Release
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		rel, err = r.successor(v, t.Runs())
		return err
	})
	if errors.Is(err, orchestrator.ErrNotFound) {
		t.enter(orchestrator.StateFailed, "there is no release to make another machine from")
		return nil
	}
	if err != nil {
		return err
	}
	if here, err := r.imageAt(ctx, t, t.Plan.Provider, rel); !here {
		return err
	}
	place := placeOf(t.Plan, r.providerName(t.Plan.Provider))
	t.Enrolment, t.Endpoint = orchestrator.Enrolment{}, ""
	t.Created, t.Repairs = false, 0
	t.Plan, t.Updated, t.Update = orchestrator.Plan{Release: rel.Digest}, attest.ReleaseDigest{}, orchestrator.Update{Attempt: t.Update.Attempt}
	if err := r.draw(t, place); err != nil {
		return err
	}
	t.enter(orchestrator.StateCreating, "another machine, from release "+rel.Version+", for the disk of "+string(t.DataOf))
	t.announce()
	return nil
}

// successor is what another machine for the data of one that ran a release is made
// from: nothing that is older than that, which its owner's client would refuse.
func (r *Reconciler) successor(v store.Reader, ran attest.ReleaseDigest) (orchestrator.Release, error) {
	before, err := v.Release(ran)
	if errors.Is(err, orchestrator.ErrNotFound) {
		return r.release(v)
	}
	if err != nil {
		return before, err
	}
	rel, err := r.release(v)
	switch {
	case errors.Is(err, orchestrator.ErrNotFound):
		return before, nil
	case err != nil:
		return rel, err
	case before.Epoch > rel.Epoch, before.Epoch == rel.Epoch && before.AddedAt.After(rel.AddedAt):
		return before, nil
	}
	return rel, nil
}

// attach gives a machine that is off the disk that was kept for it.
func (r *Reconciler) attach(ctx context.Context, t *step) error {
	a := r.Attachers[r.providerName(t.Plan.Provider)]
	if a == nil {
		t.enter(orchestrator.StateFailed, "the provider gives no machine the disk of another")
		return nil
	}
	err := a.AttachData(ctx, t.Machine, t.DataOf)
	switch providers.CodeOf(err) {
	case "":
		t.DataOf = ""
		return nil
	case providers.CodeNotFound:
		t.enter(orchestrator.StateFailed, fmt.Sprintf("giving the machine the disk of %s: %v", t.DataOf, err))
		return nil
	}
	return r.refused(ctx, t, "giving the machine the disk of another", err)
}
