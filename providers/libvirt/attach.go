package libvirt

import (
	"context"
	"fmt"
	"slices"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// AttachData marks the kept disk as the machine's, has the domain use it, and
// removes the one that it had. The disk stays on its host.
func (p *Provider) AttachData(ctx context.Context, machine, from providers.MachineID) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if err := sdk.CheckID("from", from); err != nil {
		return err
	}
	return p.alone(ctx, string(machine), "attaching a disk to machine "+string(machine), func(ctx context.Context) error {
		f, err := p.find(ctx, c, machine)
		if err != nil {
			return err
		}
		if f.DataFrom == from {
			return f.host.do(ctx, "attaching a disk", f.dropOwn)
		}
		// A machine that is there has no kept disk.
		if _, err := p.find(ctx, c, from); providers.CodeOf(err) != providers.CodeNotFound {
			return notKept(from, err)
		}
		disk, err := p.kept(ctx, c, f.host, from)
		if err != nil {
			return err
		}
		return f.host.do(ctx, "attaching a disk", func(l *link) error { return f.attach(l, disk, from) })
	})
}

func notKept(from providers.MachineID, err error) error {
	if err != nil {
		return err
	}
	return providers.Errorf(providers.CodeNotFound, "no data disk is kept of machine %s", from)
}

// kept finds the disk that was kept of a machine, which must be on the host.
func (p *Provider) kept(ctx context.Context, c *config, on *host, from providers.MachineID) (volume, error) {
	for _, h := range c.hosts {
		var disk volume
		err := h.do(ctx, "looking for a kept disk", func(l *link) error {
			all, err := l.inventory()
			if i := slices.IndexFunc(all, func(v volume) bool { return v.kind == kindData && v.owner == from }); i >= 0 {
				disk = all[i]
			}
			return err
		})
		switch {
		case err != nil:
			return volume{}, asking(err)
		case disk.name != "" && h != on:
			return volume{}, &providers.Error{Code: providers.CodeConflict, Message: fmt.Sprintf("the disk of machine %s is on host %s, and the machine on %s", from, h.Name, on.Name),
				Hint: "make the machine in region " + h.Name}
		case disk.name != "":
			return disk, nil
		}
	}
	return volume{}, notKept(from, nil)
}

func (f *found) attach(l *link, disk volume, from providers.MachineID) error {
	if err := f.checkAttach(l, disk, from); err != nil {
		return err
	}
	// From here on the disk is this machine's, whatever crashes.
	if disk.machine != f.Machine {
		if _, _, err := l.makeVolume(l.files, volumeSpec{name: markerName(f.Installation, f.Machine, disk.machine)}); err != nil {
			return fmt.Errorf("marking the disk: %w", err)
		}
	}
	if from != disk.machine {
		if err := l.removeVolume(l.files, markerName(f.Installation, from, disk.machine)); err != nil {
			return fmt.Errorf("removing the mark of machine %s: %w", from, err)
		}
	}
	f.Disk, f.DataFrom = disk.machine, from
	if err := f.host.define(l, f.tags); err != nil {
		return err
	}
	return f.dropOwn(l)
}

// dropOwn removes the disk that the machine was made with, which it does not
// use any more.
func (f *found) dropOwn(l *link) error {
	if f.Disk == f.Machine {
		return nil
	}
	return l.removeVolume(l.pool, f.volume(kindData))
}

// checkAttach says why a disk cannot be attached.
func (f *found) checkAttach(l *link, disk volume, from providers.MachineID) error {
	state, _, err := l.state(f.dom)
	if err != nil {
		return err
	}
	own, err := l.StorageVolLookupByName(l.pool.StoragePool, f.dataVolume())
	if err != nil {
		return err
	}
	blank, err := l.isBlank(own)
	switch {
	case err != nil:
		return err
	case disk.installation != f.Installation:
		return providers.Errorf(providers.CodeConflict, "the disk of machine %s belongs to another installation", from)
	case f.Deleting || !f.Made:
		return providers.Errorf(providers.CodeAborted, "machine %s is being made or deleted", f.Machine)
	case f.On || active(state):
		return providers.Errorf(providers.CodeConflict, "machine %s is on", f.Machine)
	case f.DataFrom != "" || !blank:
		return providers.Errorf(providers.CodeConflict, "the disk of machine %s has been used", f.Machine)
	}
	return nil
}
