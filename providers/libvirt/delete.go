package libvirt

import (
	"context"
	"fmt"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Delete writes down that the machine is to go, removes what belongs to it, and
// undefines its domain last.
func (p *Provider) Delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if err := sdk.CheckID("machine", id); err != nil {
		return err
	}
	return p.alone(ctx, string(id), "deleting machine "+string(id), func(ctx context.Context) error {
		f, err := p.find(ctx, c, id)
		switch providers.CodeOf(err) {
		case "":
			return f.host.do(ctx, "deleting a machine", func(l *link) error { return f.delete(l, keepData) })
		case providers.CodeNotFound:
			return p.deleteLeftovers(ctx, c, id, keepData)
		}
		return err
	})
}

func (f *found) delete(l *link, keepData bool) error {
	if !f.Deleting {
		f.Deleting = true
		if err := l.writeTags(f.dom, f.tags); err != nil {
			return fmt.Errorf("recording the deletion: %w", err)
		}
	}
	if err := l.destroy(f.dom); err != nil {
		return fmt.Errorf("ending it: %w", err)
	}
	if err := l.removeVolumes(f.Machine, keepData); err != nil {
		return err
	}
	// The state of its TPM goes with it.
	err := l.DomainUndefineFlags(f.dom, libvirt.DomainUndefineNvram|libvirt.DomainUndefineManagedSave|libvirt.DomainUndefineSnapshotsMetadata)
	if is(err, libvirt.ErrNoDomain) {
		return nil
	}
	return err
}

// removeVolumes removes what belongs to a machine. A marker outlives its disk:
// without it the disk would be another machine's.
func (l *link) removeVolumes(id providers.MachineID, keepData bool) error {
	all, err := l.inventory()
	if err != nil {
		return fmt.Errorf("listing volumes: %w", err)
	}
	mine := of(all, id)
	kept := func(v volume) bool { return keepData && (v.kind == kindData || v.kind == kindMarker) }
	slices.SortStableFunc(mine, func(a, b volume) int { return rank(a) - rank(b) })
	for _, v := range mine {
		if kept(v) {
			continue
		}
		if err := l.removeVolume(v.pool, v.name); err != nil {
			return fmt.Errorf("removing %s: %w", v.name, err)
		}
	}
	return nil
}

func rank(v volume) int {
	if v.kind == kindMarker {
		return 1
	}
	return 0
}

// deleteLeftovers removes what is left on any host of a machine that is on none.
func (p *Provider) deleteLeftovers(ctx context.Context, c *config, id providers.MachineID, keepData bool) error {
	for _, h := range c.hosts {
		err := h.do(ctx, "removing what is left of a machine", func(l *link) error { return l.removeVolumes(id, keepData) })
		if err != nil {
			return err
		}
	}
	return nil
}
