package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

const (
	tickEvery  = 500 * time.Millisecond
	sweepEvery = time.Minute
	haltPoll   = 200 * time.Millisecond
)

// Run works until ctx ends: first it makes everything due, since what happened
// while no process ran is not known, and then follows hints and times.
func (r *Reconciler) Run(ctx context.Context) error {
	if err := r.Resume(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Queue.Work(ctx, r.Reconcile) })
	group.Go(func() error { r.every(ctx, tickEvery, "leaving hints", r.Tick); return nil })
	group.Go(func() error { r.every(ctx, sweepEvery, "looking for orphans", r.Sweep); return nil })
	return group.Wait()
}

// every calls f until ctx ends. A failure is for the log: the next call does
// all of what this one should have done.
func (r *Reconciler) every(ctx context.Context, d time.Duration, doing string, f func(context.Context) error) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := f(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Error(doing, zap.Error(err))
		}
	}
}

// Resume makes every instance that is not gone due now.
func (r *Reconciler) Resume(ctx context.Context) error {
	return r.Store.Update(ctx, func(tx store.Tx) error {
		all, err := tx.Instances(store.Filter{})
		if err != nil {
			return err
		}
		for _, i := range all {
			i.NextAt = r.Clock()
			if err := tx.Replace(&i); err != nil {
				return err
			}
			if err := tx.Enqueue(i.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// Tick leaves a hint for each instance whose time has come and that has none.
func (r *Reconciler) Tick(ctx context.Context) error {
	due, err := r.Due(ctx)
	if err != nil || len(due) == 0 {
		return err
	}
	due = r.unqueued(due)
	if len(due) == 0 {
		return nil
	}
	err = r.Store.Update(ctx, func(tx store.Tx) error {
		for _, id := range due {
			if err := tx.Enqueue(id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		r.unqueue(due)
	}
	return err
}

// Due lists the instances whose time has come.
func (r *Reconciler) Due(ctx context.Context) ([]orchestrator.InstanceID, error) {
	var ids []orchestrator.InstanceID
	return ids, r.Store.View(ctx, func(v store.Reader) error {
		due, err := v.Instances(store.Filter{DueBy: r.Clock()})
		for _, i := range due {
			ids = append(ids, i.ID)
		}
		return err
	})
}

func (r *Reconciler) unqueued(ids []orchestrator.InstanceID) []orchestrator.InstanceID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var fresh []orchestrator.InstanceID
	for _, id := range ids {
		_, active := r.active[id]
		if active || r.queued[id] {
			continue
		}
		r.queued[id] = true
		fresh = append(fresh, id)
	}
	return fresh
}

func (r *Reconciler) unqueue(ids []orchestrator.InstanceID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range ids {
		delete(r.queued, id)
	}
}

// Halt powers every machine off and returns when all are, or ctx ends. It may
// only be called while Run does not work.
func (r *Reconciler) Halt(ctx context.Context) error {
	var all []orchestrator.Instance
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		all, err = v.Instances(store.Filter{})
		return err
	})
	if err != nil {
		return err
	}
	var group errgroup.Group
	for _, i := range all {
		if i.Machine != "" {
			group.Go(func() error { return r.halt(ctx, i) })
		}
	}
	return group.Wait()
}

func (r *Reconciler) halt(ctx context.Context, i orchestrator.Instance) error {
	if err := r.switchOff(ctx, i.Machine); err != nil {
		return fmt.Errorf("powering off the machine of instance %s: %w", i.ID, err)
	}
	if err := r.stopped(ctx, i.ID); err != nil {
		return fmt.Errorf("recording that instance %s is powered off: %w", i.ID, err)
	}
	return nil
}

// stopped records a power-off over whatever the row has become meanwhile: what
// a machine said last may still be on its way into it.
func (r *Reconciler) stopped(ctx context.Context, id orchestrator.InstanceID) error {
	t := &step{now: r.Clock(), limits: r.Policy.Limits}
	err := r.Store.Update(ctx, func(tx store.Tx) (err error) {
		if t.Instance, err = tx.Instance(id); err != nil {
			return err
		}
		switch t.State {
		case orchestrator.StateBooting, orchestrator.StateEnrolling, orchestrator.StateReady, orchestrator.StateQuarantined:
		default:
			return nil
		}
		t.Enrolment = t.Enrolment.NextBoot()
		t.Cycling = false
		t.enter(orchestrator.StateStopped, "powered off with the control plane")
		return write(tx, t)
	})
	if err != nil {
		return err
	}
	r.logEvents(t)
	return nil
}

// switchOff waits until the machine is off or absent. A provider that is busy
// with it, or not there for a moment, is asked again until ctx ends.
func (r *Reconciler) switchOff(ctx context.Context, id providers.MachineID) error {
	ticker := time.NewTicker(haltPoll)
	defer ticker.Stop()
	asked := false
	for {
		var m providers.Machine
		var err error
		if !asked {
			err = r.Machines.SetPower(ctx, id, false)
			asked = err == nil
		}
		if err == nil || providers.CodeOf(err) == providers.CodeAborted {
			m, err = r.Machines.Get(ctx, id)
		}
		switch {
		case providers.CodeOf(err) == providers.CodeNotFound:
			return nil
		case err != nil && !passing(err):
			return err
		case err == nil && (m.Power == providers.PowerOff || m.Power == providers.PowerCrashed):
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for it to be off: %w", ctx.Err()), err)
		case <-ticker.C:
		}
	}
}

// passing reports whether a refusal can end by itself within a power-off.
func passing(err error) bool {
	switch providers.CodeOf(err) {
	case providers.CodeAborted, providers.CodeUnavailable, providers.CodeThrottled, providers.CodeOutcomeUnknown:
		return true
	default:
		return false
	}
}
