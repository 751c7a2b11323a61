package libvirt

import (
	"context"
	"fmt"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Apply grows the data disk, under a running guest too, mends what somebody has
// changed, and writes the generation down last: one that is written was applied.
func (p *Provider) Apply(ctx context.Context, change providers.Change) (m providers.Machine, err error) {
	c, err := p.configured()
	if err != nil {
		return m, err
	}
	err = p.alone(ctx, string(change.Machine), "changing machine "+string(change.Machine), func(ctx context.Context) error {
		f, err := p.find(ctx, c, change.Machine)
		if err != nil {
			return err
		}
		if err := f.host.do(ctx, "changing a machine", func(l *link) error { return f.apply(l, change) }); err != nil {
			return err
		}
		m, err = p.see(ctx, c, f)
		return err
	})
	if err != nil {
		return providers.Machine{}, err
	}
	return m, nil
}

func (f *found) apply(l *link, change providers.Change) error {
	switch {
	case f.Deleting:
		return providers.Errorf(providers.CodeAborted, "machine %s is being deleted", f.Machine)
	case !f.Made:
		return providers.Errorf(providers.CodeAborted, "machine %s is being made", f.Machine)
	}
	vol, err := l.StorageVolLookupByName(l.pool.StoragePool, f.dataVolume())
	if err != nil {
		return fmt.Errorf("looking for the data disk: %w", err)
	}
	_, has, _, err := l.StorageVolGetInfo(vol)
	if err != nil {
		return fmt.Errorf("looking at the data disk: %w", err)
	}
	if err := sdk.CheckChange(providers.Machine{Generation: f.Generation}, int64(has), change); err != nil { //nolint:gosec // no disk is as large
		return err
	}
	if n := change.DataBytes; n > maxDataBytes || n%sectorBytes != 0 {
		return providers.Errorf(providers.CodeInvalid, "data_bytes is %d, want a multiple of %d up to %d", n, sectorBytes, int64(maxDataBytes))
	}
	if change.DataBytes != 0 {
		if err := f.grow(l, vol, has, uint64(change.DataBytes)); err != nil {
			return fmt.Errorf("growing the data disk: %w", err)
		}
	}
	drift, err := l.drift(f.dom, f.tags)
	if err != nil {
		return err
	}
	f.Generation = change.Generation
	if drift != "" {
		return f.host.define(l, f.tags)
	}
	return l.writeTags(f.dom, f.tags)
}

// dataTarget is what libvirt calls the data disk.
const dataTarget = "vdb"

// grow makes the volume larger, and tells a guest that runs, also where the one
// was done before and the other was not.
func (f *found) grow(l *link, vol libvirt.StorageVol, has, want uint64) error {
	if want > has {
		if err := l.StorageVolResize(vol, want, 0); err != nil {
			return err
		}
	}
	state, _, err := l.state(f.dom)
	if err != nil || !active(state) {
		return err
	}
	_, seen, _, err := l.DomainGetBlockInfo(f.dom, dataTarget, 0)
	if err != nil || seen >= want {
		return err
	}
	return l.DomainBlockResize(f.dom, dataTarget, want, libvirt.DomainBlockResizeBytes)
}
