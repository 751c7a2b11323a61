package libvirt

import (
	"context"

	libvirt "github.com/digitalocean/go-libvirt"
	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Watch passes on what the hosts say of their domains, until one is lost.
func (p *Provider) Watch(ctx context.Context, installation providers.InstallationID, changed func(providers.MachineID)) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if err := sdk.CheckID("installation", installation); err != nil {
		return err
	}
	hints := make(chan providers.MachineID)
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range c.hosts {
		g.Go(func() error { return h.watch(ctx, installation, hints) })
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	for {
		select {
		case id := <-hints:
			changed(id)
		case err := <-ended:
			return err
		}
	}
}

// watch sends the machines of the installation that a host speaks of.
func (h *host) watch(ctx context.Context, installation providers.InstallationID, hints chan<- providers.MachineID) error {
	l, err := h.reach(ctx)
	if err != nil {
		return err
	}
	// The stream must be read to its end, or the connection stands still.
	events, err := l.LifecycleEvents(ctx)
	if err != nil {
		return asking(h.failure(err, "watching"))
	}
	for event := range events {
		if id, ok := h.concerns(ctx, event, installation); ok {
			select {
			case hints <- id:
			case <-ctx.Done():
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return providers.Errorf(providers.CodeUnavailable, "host %s: the connection was lost", h.Name).In(providers.ScopeRegion)
}

// concerns reports whose an event is, if it is one of the installation's
// machines that is still there.
func (h *host) concerns(ctx context.Context, event libvirt.DomainEventLifecycleMsg, installation providers.InstallationID) (providers.MachineID, bool) {
	id, ok := machineOf(event.Dom.Name)
	if !ok || ctx.Err() != nil {
		return "", false
	}
	f, err := h.lookup(ctx, id)
	return id, err == nil && f != nil && f.Installation == installation
}
