package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// release is what a new machine is made from.
func (r *Reconciler) release(v store.Reader) (orchestrator.Release, error) {
	all, err := v.Releases()
	if err != nil {
		return orchestrator.Release{}, err
	}
	return orchestrator.DefaultRelease(all, r.Policy.Release, r.Policy.Withdrawn)
}

// requested makes sure that nothing of an earlier try is there and that the
// image is, and then fixes the plan.
func (r *Reconciler) requested(ctx context.Context, t *step) error {
	if t.DataOf != "" {
		t.enter(orchestrator.StateReplacing, t.Reason)
		return nil
	}
	if t.Machine != "" {
		return r.revisit(ctx, t)
	}
	var rel orchestrator.Release
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		rel, err = r.release(v)
		return err
	})
	if errors.Is(err, orchestrator.ErrNotFound) {
		t.enter(orchestrator.StateWaiting, "there is no release to make it from")
		return nil
	}
	if err != nil {
		return err
	}
	place, err := r.choose(t.Wish)
	if err != nil {
		// An operator can configure one, and the row says what is missing.
		t.Reason = err.Error()
		t.again(pollReady)
		return nil //nolint:nilerr // it is in the row
	}
	if here, err := r.imageAt(ctx, t, place.Provider, rel); !here {
		return err
	}
	t.Plan = orchestrator.Plan{Release: rel.Digest}
	if err := r.draw(t, place); err != nil {
		return err
	}
	t.enter(orchestrator.StateCreating, "made from release "+rel.Version)
	t.announce()
	return nil
}

// imageAt reports whether the image is at the provider, and the provider takes
// calls; where not, the step is over.
func (r *Reconciler) imageAt(ctx context.Context, t *step, provider string, rel orchestrator.Release) (bool, error) {
	if wait := r.paced(provider); wait > 0 {
		t.again(wait)
		return false, nil
	}
	switch present, err := r.ensure(ctx, provider, rel); {
	case err != nil:
		return false, r.refused(ctx, t, "making the image available", err)
	case !present:
		t.Reason = "the image is being made available"
		t.again(pollSoon)
		return false, nil
	}
	return true, nil
}

// revisit looks for the machine of a try before this one. One that the
// provider authoritatively does not have leaves its id unused for ever.
func (r *Reconciler) revisit(ctx context.Context, t *step) error {
	m, err := r.machines(t.Plan.Provider).Get(ctx, t.Machine)
	switch {
	case providers.CodeOf(err) == providers.CodeNotFound:
		t.Machine, t.Plan, t.Uncertain = "", orchestrator.Plan{}, false
		return nil
	case err != nil:
		return r.refused(ctx, t, "looking for the machine of an earlier try", err)
	}
	return r.created(ctx, t, m)
}

func (r *Reconciler) forgetImage(p orchestrator.Plan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.present, image{r.providerName(p.Provider), p.Release})
}

// draw draws the machine's id and token, and fixes what it is made from, of
// the plan's release, and where.
func (r *Reconciler) draw(t *step, place Place) error {
	id, err := orchestrator.NewID(r.Random)
	if err != nil {
		return err
	}
	config := api.Config{
		Version: api.ConfigVersion, Machine: id,
		ControlPlane: r.Policy.ControlPlane, ControlPlaneSPKI: r.Policy.ControlPlaneSPKI,
	}
	var token api.Token
	if _, err := io.ReadFull(r.Random, token[:]); err != nil {
		return fmt.Errorf("drawing a token: %w", err)
	}
	config.TokenHash = token.Hash()
	encoded, err := config.Encode()
	if err != nil {
		return err
	}
	drive, err := api.EncodeDrive(encoded, token)
	if err != nil {
		return err
	}
	t.Machine = providers.MachineID(id)
	t.Plan = orchestrator.Plan{
		Provider: place.Provider, Release: t.Plan.Release, Region: place.Region, Size: place.Size,
		DataBytes: cmp.Or(t.DataBytes, r.Policy.DataBytes), Config: drive, ConfigDigest: attest.ConfigDigest(encoded), TokenHash: config.TokenHash,
	}
	return nil
}

// announce writes down that the machine may be there, for the step after this
// one to ask for it.
func (t *step) announce() { t.Uncertain, t.announced = true, true }

// creating asks for the machine once that is written down.
func (r *Reconciler) creating(ctx context.Context, t *step) error {
	switch {
	case !t.Uncertain:
		return r.prepare(ctx, t)
	case !t.announced:
		return r.settle(ctx, t)
	}
	t.announced = false
	m, err := r.machines(t.Plan.Provider).Create(ctx, providers.CreateRequest{
		Installation: r.Policy.Installation, Machine: t.Machine, Generation: t.Generation, Spec: t.Plan.Spec(),
	})
	if err == nil {
		r.Trap(failpoint.AfterCreateBeforeRecord)
		return r.created(ctx, t, m)
	}
	switch code := providers.CodeOf(err); code {
	case providers.CodeInvalid, providers.CodeQuota, providers.CodeCapacity, providers.CodeThrottled,
		providers.CodeDenied, providers.CodeUnauthenticated:
		t.Uncertain = false
		if code == providers.CodeInvalid {
			// It may be the image that is not there any more: a retry makes
			// sure of that too.
			r.forgetImage(t.Plan)
		}
	case providers.CodeNotFound:
		// The provider has lost the image since it was last seen there.
		r.forgetImage(t.Plan)
		t.enter(orchestrator.StateRequested, fmt.Sprintf("creating the machine: %v", err))
		t.again(pollSoon)
		return nil
	}
	if noRoom(err) {
		if moved, err := r.elsewhere(t, err); moved || err != nil {
			return err
		}
	}
	return r.refused(ctx, t, "creating the machine", err)
}

// prepare sees to it that the provider has the image, and writes down that it
// will be asked for the machine.
func (r *Reconciler) prepare(ctx context.Context, t *step) error {
	var rel orchestrator.Release
	err := r.Store.View(ctx, func(v store.Reader) (err error) {
		rel, err = v.Release(t.Plan.Release)
		return err
	})
	if err != nil {
		return err
	}
	if here, err := r.imageAt(ctx, t, t.Plan.Provider, rel); !here {
		return err
	}
	t.announce()
	return nil
}

// settle finds out what became of a Create that was not answered.
func (r *Reconciler) settle(ctx context.Context, t *step) error {
	m, err := r.machines(t.Plan.Provider).Get(ctx, t.Machine)
	switch {
	case providers.CodeOf(err) == providers.CodeNotFound:
		// It is still written down that the machine may be there.
		t.announced = true
		return nil
	case err != nil:
		return r.refused(ctx, t, "looking for a machine that may have been created", err)
	}
	return r.created(ctx, t, m)
}

// created records a machine that is known to be there. Its configuration has
// done its work, so the token in it is forgotten.
func (r *Reconciler) created(ctx context.Context, t *step, m providers.Machine) error {
	if err := r.another(t, m); err != nil {
		return r.refused(ctx, t, "looking at the machine that was created", err)
	}
	if len(t.Plan.Config) > 0 && m.SpecHash != t.Plan.Spec().Hash() {
		t.Created = true
		t.enter(orchestrator.StateFailed, "the provider has a machine of that id made from something else")
		return nil
	}
	t.Created, t.Uncertain = true, false
	t.Plan.Config = nil
	t.Endpoint = m.Endpoint
	// What it is to have is another's disk, which it gets while it is off.
	t.Cycling = t.DataOf != ""
	t.enter(orchestrator.StateBooting, "the provider has accepted it")
	r.Logger.Info("the provider has the machine", zap.String("instance", string(t.ID)), zap.String("machine", string(t.Machine)),
		zap.Time("created_at", m.CreatedAt), zap.Strings("resources", named(m.Resources)))
	return nil
}

// named are resources as an operator finds them in the cloud's own console.
func named(all []providers.Resource) []string {
	names := make([]string, 0, len(all))
	for _, r := range all {
		name := fmt.Sprintf("%s %s", r.Kind, r.ID)
		if r.Bytes > 0 {
			name += fmt.Sprintf(" of %d bytes", r.Bytes)
		}
		names = append(names, name)
	}
	return names
}

// another refuses a provider's answer about a machine that is not the one that
// was asked about, or not where and of what it was to be made. One that somebody
// has changed since is Apply's to mend.
func (r *Reconciler) another(t *step, m providers.Machine) error {
	if m.Drift != "" {
		return nil
	}
	for _, field := range []struct{ name, got, want string }{
		{"machine", string(m.ID), string(t.Machine)},
		{"installation", string(m.Installation), string(r.Policy.Installation)},
		{"release", m.Release.String(), t.Plan.Release.String()},
		{"region", m.Region, cmp.Or(t.Plan.Region, m.Region)},
		{"size", m.Size, cmp.Or(t.Plan.Size, m.Size)},
	} {
		if field.got != field.want {
			return providers.Errorf(providers.CodeInternal, "the provider answered with %s %.64q, want %.64q", field.name, field.got, field.want)
		}
	}
	return nil
}
