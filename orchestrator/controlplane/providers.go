package controlplane

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator/api"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/monitor"
	"github.com/toolshed-cloud/shed/orchestrator/reconcile"
	"github.com/toolshed-cloud/shed/providers"
)

// plugged is a provider that runs and is configured.
type plugged struct {
	providers.Provider
	info providers.Info
}

// has reports whether the provider offers a rare ability.
func (p plugged) has(c providers.Capability) bool { return slices.Contains(p.info.Capabilities, c) }

// openProviders starts each of the configuration's.
func (p *ControlPlane) openProviders(ctx context.Context) error {
	p.providers = map[string]plugged{}
	all := p.Config.Providers()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		// A nil pointer that comes with an error makes an interface that is not
		// nil.
		started, err := p.Provider(ctx, name)
		if err != nil {
			return fmt.Errorf("starting the provider %s: %w", name, err)
		}
		p.providers[name] = plugged{Provider: started}
		if err := started.Configure(ctx, all[name].Settings); err != nil {
			return fmt.Errorf("configuring the provider %s: %w", name, err)
		}
		// Once it is configured it also knows how its guests run.
		info, err := started.Info(ctx)
		if err != nil {
			return fmt.Errorf("asking the provider %s who it is: %w", name, err)
		}
		p.providers[name] = plugged{started, info}
		if process, ok := started.(interface{ Pid() int }); ok && name == p.Config.ProviderName {
			failpoint.OnPlugin(process.Pid)
		}
		p.Logger.Info("provider runs", zap.String("name", info.Name), zap.String("version", info.Version), zap.Strings("notes", info.Notes))
	}
	return nil
}

// measured is a provider whose calls are counted.
type measured struct {
	monitor.Machines
	reconcile.Imager
}

// measured is what the reconciler makes machines with.
func (p *ControlPlane) measured() map[string]reconcile.Provider {
	all := make(map[string]reconcile.Provider, len(p.providers))
	for name, provider := range p.providers {
		all[name] = measured{monitor.Machines{Machines: provider, Metrics: p.metrics}, provider}
	}
	return all
}

// able are the providers that say they have a capability.
func able[Ability any](p *ControlPlane, c providers.Capability) map[string]Ability {
	all := map[string]Ability{}
	for name, provider := range p.providers {
		if a, ok := provider.Provider.(Ability); ok && provider.has(c) {
			all[name] = a
		}
	}
	return all
}

// abilities are what operators can ask of a provider's machines.
func (p *ControlPlane) abilities(name string) api.Provider {
	if name == "" {
		name = p.Config.ProviderName
	}
	provider, ok := p.providers[name]
	if !ok {
		return api.Provider{}
	}
	out := api.Provider{Catalog: provider, Info: provider.info, AttachesData: provider.has(providers.CapabilityAttachData)}
	if c, ok := provider.Provider.(providers.Consoler); ok && provider.has(providers.CapabilityConsole) {
		out.Consoler = c
	}
	if s, ok := provider.Provider.(providers.Snapshotter); ok && provider.has(providers.CapabilitySnapshot) {
		out.Snapshotter = s
	}
	return out
}

func (p *ControlPlane) providerNames() []string { return slices.Sorted(maps.Keys(p.providers)) }

func placesOf(list []config.Place) []reconcile.Place {
	var out []reconcile.Place
	for _, p := range list {
		out = append(out, reconcile.Place(p))
	}
	return out
}

func plansOf(plans map[string][]config.Place) map[string][]reconcile.Place {
	out := make(map[string][]reconcile.Place, len(plans))
	for name, list := range plans {
		out[name] = placesOf(list)
	}
	return out
}

// checkPlaces refuses a place that its provider does not have, and names those
// that it has. A provider that cannot say so now is believed.
func (p *ControlPlane) checkPlaces(ctx context.Context) error {
	c := p.Config
	for _, place := range c.Places {
		key := "instance.places"
		if len(c.Places) == 1 && place.Region == c.Region && place.Size == c.Size {
			key = ""
		}
		if err := p.checkPlace(ctx, key, place); err != nil {
			return err
		}
	}
	for name, list := range c.Plans {
		for _, place := range list {
			if err := p.checkPlace(ctx, "plans", place); err != nil {
				return fmt.Errorf("plan %s: %w", name, err)
			}
		}
	}
	return nil
}

// checkPlace names the key at fault: region's or size's own where key is empty.
func (p *ControlPlane) checkPlace(ctx context.Context, key string, place config.Place) error {
	offered, err := p.providers[place.Provider].Offerings(ctx)
	switch providers.CodeOf(err) {
	case "":
	case providers.CodeUnavailable, providers.CodeThrottled:
		p.Logger.Warn("the provider cannot say what it offers", zap.String("provider", place.Provider), zap.Error(err))
		return nil
	default:
		return fmt.Errorf("asking the provider %s what it offers: %w", place.Provider, err)
	}
	var regions, sizes []string
	for _, o := range offered {
		if o.Region == place.Region && o.Size == place.Size {
			return nil
		}
		regions = append(regions, o.Region)
		if o.Region == place.Region {
			sizes = append(sizes, o.Size)
		}
	}
	named := func(own string) string {
		if key == "" {
			return own
		}
		return key
	}
	if len(sizes) == 0 {
		return p.Config.Errorf(named("instance.region"), fmt.Errorf("%q is not offered: %s", place.Region, nearest(place.Region, regions)))
	}
	return p.Config.Errorf(named("instance.size"), fmt.Errorf("%q is not offered in %s: %s", place.Size, place.Region, nearest(place.Size, sizes)))
}

// nearest lists names, those first that are most like the one asked for.
func nearest(asked string, names []string) string {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	slices.SortStableFunc(names, func(a, b string) int { return common(asked, b) - common(asked, a) })
	const most = 8
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	return strings.Join(names, ", ")
}

// common is how long a beginning two names share.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
