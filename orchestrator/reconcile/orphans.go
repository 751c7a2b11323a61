package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// ownership says what a listed machine is to this store.
type ownership int

const (
	// The zero value is a machine that an instance points at.
	_ ownership = iota
	// leftover is one that this store drew the id of and has let go since.
	leftover
	// unknown is one that this store has never heard of, as after it was
	// restored from an older copy. Only a person can tell what it is.
	unknown
)

// maxPages bounds a listing that never ends.
const maxPages = 10_000

// Sweep deletes what a crash left at the provider. A resource goes only when
// two sweeps at least the grace period apart found it to be a leftover, each
// with the store answering; a stranger is reported and never touched
// (docs/decisions/0032). Errors are the provider's and the store's.
func (r *Reconciler) Sweep(ctx context.Context) error {
	var failed []error
	for name, provider := range r.Providers {
		if err := r.sweep(ctx, name, provider); err != nil {
			failed = append(failed, fmt.Errorf("provider %s: %w", name, err))
		}
	}
	return errors.Join(failed...)
}

// suspect is a machine at a provider that was nobody's.
type suspect struct {
	provider string
	machine  providers.MachineID
}

func (r *Reconciler) sweep(ctx context.Context, name string, provider providers.Machines) error {
	listed, err := r.listed(ctx, provider)
	if err != nil {
		return err
	}
	found := make(map[providers.MachineID]bool)
	for _, id := range slices.Sorted(maps.Keys(listed)) {
		kind, i, err := r.ownership(ctx, name, id)
		if err != nil {
			return err
		}
		switch kind {
		case leftover:
			found[id] = true
			if err := r.collect(ctx, suspect{name, id}, provider, i); err != nil {
				return err
			}
		case unknown:
			r.Logger.Warn("the provider lists a machine of this installation that the store has never heard of",
				zap.String("provider", name), zap.String("machine", string(id)), zap.Strings("resources", named(listed[id])))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.suspects {
		if s.provider == name && !found[s.machine] {
			delete(r.suspects, s)
		}
	}
	return nil
}

// listed are the resources at the provider, by the machines that they belong to,
// but for snapshots.
func (r *Reconciler) listed(ctx context.Context, provider providers.Machines) (map[providers.MachineID][]providers.Resource, error) {
	all := make(map[providers.MachineID][]providers.Resource)
	page := ""
	for range maxPages {
		p, err := provider.List(ctx, r.Policy.Installation, page)
		if err != nil {
			return nil, fmt.Errorf("listing what the provider has: %w", err)
		}
		for _, resource := range p.Resources {
			// A snapshot outlives its machine, and is deleted by whoever took it.
			if resource.Kind == providers.ResourceSnapshot {
				continue
			}
			if resource.Machine == "" {
				r.Logger.Warn("the provider lists a resource that belongs to no machine", zap.Strings("resources", named([]providers.Resource{resource})))
				continue
			}
			all[resource.Machine] = append(all[resource.Machine], resource)
		}
		if p.Next == "" {
			return all, nil
		}
		page = p.Next
	}
	return nil, fmt.Errorf("listing what the provider has: more than %d pages", maxPages)
}

// ownership says whose a machine at a provider is. One that an instance points
// at and has at another provider is a leftover.
func (r *Reconciler) ownership(ctx context.Context, provider string, id providers.MachineID) (kind ownership, i orchestrator.Instance, err error) {
	err = r.Store.View(ctx, func(v store.Reader) error {
		instance, err := v.Machine(id)
		if errors.Is(err, orchestrator.ErrNotFound) {
			kind = unknown
			return nil
		}
		if err != nil {
			return err
		}
		if i, err = v.Instance(instance); err != nil {
			return err
		}
		if i.DataOf == id && i.State != orchestrator.StateDeleted {
			// Its disk is kept, for the machine that the instance gets.
			return nil
		}
		if i.Machine != id || i.State == orchestrator.StateDeleted || r.providerName(i.Plan.Provider) != provider {
			kind = leftover
		}
		return nil
	})
	return kind, i, err
}

func (r *Reconciler) collect(ctx context.Context, s suspect, provider providers.Machines, i orchestrator.Instance) error {
	if !r.expired(s, r.Steady()) {
		return nil
	}
	if err := provider.Delete(ctx, s.machine, false); err != nil {
		return fmt.Errorf("deleting a leftover: %w", err)
	}
	r.Logger.Info("deleted a leftover", zap.String("provider", s.provider), zap.String("machine", string(s.machine)), zap.String("instance", string(i.ID)))
	return r.Store.Update(ctx, func(tx store.Tx) error {
		return tx.Note(orchestrator.Event{
			At: r.Clock(), Instance: i.ID, From: i.State, To: i.State,
			Reason: "deleted what was left of machine " + string(s.machine),
		})
	})
}

// expired notes a suspect, and reports whether it was one long enough ago.
func (r *Reconciler) expired(s suspect, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, known := r.suspects[s]
	if !known {
		r.suspects[s] = now
		return false
	}
	return now-first >= r.Policy.OrphanGrace
}
