package qemu

import (
	"context"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Watch tells of machines whose work is done or whose process has ended.
func (p *Provider) Watch(ctx context.Context, installation providers.InstallationID, changed func(providers.MachineID)) error {
	if _, err := p.configured(); err != nil {
		return err
	}
	if err := sdk.CheckID("installation", installation); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.life, cancel)()
	p.hints.Watch(ctx, installation, changed)
	return nil
}

// changed tells who watches.
func (p *Provider) changed(r record) { p.hints.Tell(r.Installation, r.Machine) }

// watchEnd tells of the end of a machine's process, by a descriptor of its own.
func (p *Provider) watchEnd(r record, id proc.ID) {
	process, err := proc.Open(id)
	if err != nil {
		// It has ended already, or nothing can be told.
		p.changed(r)
		return
	}
	p.work.Go(func() {
		defer process.Close() //nolint:errcheck // it is only a descriptor
		if process.Wait(p.life) == nil {
			p.changed(r)
		}
	})
}
