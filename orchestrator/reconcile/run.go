package reconcile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/attest/backoff"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

const (
	sweepEvery = time.Minute
	haltPoll   = 200 * time.Millisecond
)

// Run works until ctx ends: first it looks at everything that is not at rest,
// since what happened while no process ran is not known, and then follows
// hints and its own times. Errors are the store's.
func (r *Reconciler) Run(ctx context.Context) error {
	if err := r.Resume(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.Queue.Work(ctx, r.look) })
	group.Go(func() error { r.sweepEach(ctx, sweepEvery); return nil })
	for name, w := range r.Watchers {
		group.Go(func() error { r.watch(ctx, name, w); return nil })
	}
	return group.Wait()
}

// watch looks at each machine that the provider says has changed, until ctx
// ends. Nothing depends on it: what is missed is seen when it is due.
func (r *Reconciler) watch(ctx context.Context, name string, w providers.Watcher) {
	for failures := 0; ; failures++ {
		began := r.Steady()
		err := w.Watch(ctx, r.Policy.Installation, func(id providers.MachineID) { r.hint(ctx, id) })
		if ctx.Err() != nil {
			return
		}
		if r.Steady()-began > backoffMax {
			failures = 0
		}
		r.Logger.Info("provider does not tell of changes any more", zap.String("provider", name), zap.Error(err))
		pause := time.NewTimer(backoff.Pause(failures+1, time.Second, backoffMax))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

// hint puts the instance of a machine in line.
func (r *Reconciler) hint(ctx context.Context, id providers.MachineID) {
	var i orchestrator.Instance
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		i, err = v.InstanceOfMachine(id)
		return err
	})
	if err == nil {
		r.Queue.Add(i.ID)
	}
}

// Resume puts everything that is not at rest in line. Errors are the store's.
func (r *Reconciler) Resume(ctx context.Context) error {
	var ids []orchestrator.InstanceID
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		ids, err = v.Unfinished()
		return err
	})
	if err != nil {
		return err
	}
	r.Queue.Add(ids...)
	r.Queue.Add(store.Admission)
	return nil
}

// look is Reconcile with its failure logged.
func (r *Reconciler) look(ctx context.Context, id orchestrator.InstanceID) (time.Duration, error) {
	again, err := r.Reconcile(ctx, id)
	if err != nil && ctx.Err() == nil {
		r.Logger.Error("looking at an instance", zap.String("instance", string(id)), zap.Error(err))
	}
	return again, err
}

// sweepEach looks for orphans until ctx ends. A failure is for the log: the
// next sweep does all of what this one should have done.
func (r *Reconciler) sweepEach(ctx context.Context, d time.Duration) {
	ticker := time.NewTicker(d)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := r.Sweep(ctx); err != nil && ctx.Err() == nil {
			r.Logger.Error("looking for orphans", zap.Error(err))
		}
	}
}

// Halt powers every machine off and returns when all are, or ctx ends. It may
// only be called while Run does not work. Errors are the provider's, the
// store's and ctx's.
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
	if err := r.switchOff(ctx, r.machines(i.Plan.Provider), i.Machine); err != nil {
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
		case orchestrator.StateBooting, orchestrator.StateEnrolling, orchestrator.StateReady, orchestrator.StateAwaitingOwner,
			orchestrator.StateQuarantined:
		default:
			return nil
		}
		t.held = true
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
func (r *Reconciler) switchOff(ctx context.Context, machines providers.Machines, id providers.MachineID) error {
	ticker := time.NewTicker(haltPoll)
	defer ticker.Stop()
	asked := false
	for {
		var m providers.Machine
		var err error
		if !asked {
			err = machines.SetPower(ctx, id, false)
			asked = err == nil
		}
		if err == nil || providers.CodeOf(err) == providers.CodeAborted {
			m, err = machines.Get(ctx, id)
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
