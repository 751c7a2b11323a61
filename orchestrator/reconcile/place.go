package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/providers"
)

// Place is where, and as what, a machine is made.
type Place struct {
	Provider string
	Region   string
	Size     string
}

func (p Place) String() string { return strings.Join([]string{p.Provider, p.Region, p.Size}, "/") }

// Provider makes machines and takes the images that they are made from.
type Provider interface {
	providers.Machines
	Imager
}

// errPlace says that no place is configured for what a signup asked for.
var errPlace = errors.New("no place is configured")

// machines are a provider's; the empty name is that of plans from before there
// were several.
func (r *Reconciler) machines(provider string) providers.Machines {
	if p := r.Providers[r.providerName(provider)]; p != nil {
		return p
	}
	return nobody{r.providerName(provider)}
}

func (r *Reconciler) providerName(name string) string {
	if name == "" {
		return r.Policy.Provider
	}
	return name
}

// places are those that an instance can be made at, in their order.
func (r *Reconciler) places(w orchestrator.Wish) ([]Place, error) {
	all := r.Policy.Places
	if w.Plan != "" {
		var ok bool
		if all, ok = r.Policy.Plans[w.Plan]; !ok {
			return nil, fmt.Errorf("%w for plan %s, only for %s", errPlace, w.Plan, strings.Join(slices.Sorted(maps.Keys(r.Policy.Plans)), ", "))
		}
	}
	if w.Region == "" {
		return all, nil
	}
	there := slices.DeleteFunc(slices.Clone(all), func(p Place) bool { return p.Region != w.Region })
	if len(there) == 0 {
		return nil, fmt.Errorf("%w in region %s", errPlace, w.Region)
	}
	return there, nil
}

// fullFor is how long a place that had no room is not tried again while others
// are.
const fullFor = 5 * time.Minute

// choose answers the first place that has room, or, where none is known to,
// the one that has been full the longest.
func (r *Reconciler) choose(w orchestrator.Wish) (Place, error) {
	places, err := r.places(w)
	if err != nil {
		return Place{}, err
	}
	if len(places) == 0 {
		return Place{}, errPlace
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	best := places[0]
	for _, p := range places {
		if r.fullUntil(p) < r.fullUntil(best) {
			best = p
		}
	}
	return best, nil
}

// fullUntil is when a place may have room again; 0 where it may now. The
// caller holds r.mu.
func (r *Reconciler) fullUntil(p Place) time.Duration {
	var until time.Duration
	for _, known := range []Place{{Provider: p.Provider}, {Provider: p.Provider, Region: p.Region}, p} {
		until = max(until, r.full[known])
	}
	if until <= r.Steady() {
		return 0
	}
	return until
}

// fill notes that there is no room at a place, and as far around it as the
// refusal says.
func (r *Reconciler) fill(p Place, err error) {
	switch providers.ScopeOf(err) {
	case providers.ScopeAccount:
		p = Place{Provider: p.Provider}
	case providers.ScopeRegion:
		p = Place{Provider: p.Provider, Region: p.Region}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.full[p] = r.Steady() + fullFor
}

// noRoom reports whether a refusal says that another place may do.
func noRoom(err error) bool {
	switch providers.CodeOf(err) {
	case providers.CodeCapacity, providers.CodeQuota:
		return true
	}
	return false
}

// elsewhere plans the machine anew where the next place may have room. It
// reports whether there is one. Nothing was made at the place before, whose id
// is never used again.
func (r *Reconciler) elsewhere(t *step, err error) (moved bool, _ error) {
	before := placeOf(t.Plan, r.providerName(t.Plan.Provider))
	r.fill(before, err)
	if t.DataOf != "" {
		// The disk that it is to get is there and nowhere else.
		return false, nil
	}
	next, chooseErr := r.choose(t.Wish)
	if chooseErr != nil || next == before {
		return false, nil //nolint:nilerr // the refusal says more
	}
	r.mu.Lock()
	full := r.fullUntil(next) > 0
	r.mu.Unlock()
	if full {
		return false, nil
	}
	r.Logger.Info("trying another place", zap.String("instance", string(t.ID)),
		zap.Stringer("full", before), zap.Stringer("next", next), zap.Error(err))
	reason := fmt.Sprintf("trying %s, since %s has no room: %v", next, before, err)
	if err := r.draw(t, next); err != nil {
		return false, err
	}
	t.Reason, t.Uncertain = reason, false
	t.again(0)
	return true, nil
}

func placeOf(p orchestrator.Plan, provider string) Place {
	return Place{Provider: provider, Region: p.Region, Size: p.Size}
}

// paced is after how long a provider takes calls again that has had too many;
// 0 where it takes them now.
func (r *Reconciler) paced(provider string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.slow[r.providerName(provider)]-r.Steady())
}

// pace notes for how long a provider does not want to be called.
func (r *Reconciler) pace(provider string, err error) {
	var e *providers.Error
	if !errors.As(err, &e) || e.Code != providers.CodeThrottled || providers.ScopeOf(err) == providers.ScopeMachine {
		return
	}
	name := r.providerName(provider)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slow[name] = max(r.slow[name], r.Steady()+min(e.RetryAfter, backoffMax))
}

// nobody stands for a provider that rows speak of and no configuration.
type nobody struct{ name string }

var _ providers.Machines = nobody{}

func (n nobody) err() error {
	return providers.Errorf(providers.CodeUnavailable, "provider %s is not configured", n.name).In(providers.ScopeAccount)
}

func (n nobody) Create(context.Context, providers.CreateRequest) (providers.Machine, error) {
	return providers.Machine{}, n.err()
}

func (n nobody) Get(context.Context, providers.MachineID) (providers.Machine, error) {
	return providers.Machine{}, n.err()
}

func (n nobody) List(context.Context, providers.InstallationID, string) (providers.Page, error) {
	return providers.Page{}, n.err()
}

func (n nobody) SetPower(context.Context, providers.MachineID, bool) error { return n.err() }

func (n nobody) Apply(context.Context, providers.Change) (providers.Machine, error) {
	return providers.Machine{}, n.err()
}

func (n nobody) Delete(context.Context, providers.MachineID, bool) error { return n.err() }
