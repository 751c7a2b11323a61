package qemu

import (
	"context"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
)

// watcher is one Watch.
type watcher struct {
	installation providers.InstallationID
	hints        chan providers.MachineID
}

// mostWaiting caps the hints that nobody has taken yet; more are dropped.
const mostWaiting = 1024

// Watch tells of machines whose work is done or whose process has ended.
func (p *Provider) Watch(ctx context.Context, installation providers.InstallationID, changed func(providers.MachineID)) error {
	if _, err := p.configured(); err != nil {
		return err
	}
	if err := checkID("installation", string(installation)); err != nil {
		return err
	}
	w := &watcher{installation, make(chan providers.MachineID, mostWaiting)}
	p.watching.Lock()
	p.watchers[w] = struct{}{}
	p.watching.Unlock()
	defer func() {
		p.watching.Lock()
		defer p.watching.Unlock()
		delete(p.watchers, w)
	}()
	for {
		select {
		case id := <-w.hints:
			changed(id)
		case <-ctx.Done():
			return nil
		case <-p.life.Done():
			return nil
		}
	}
}

// changed tells who watches.
func (p *Provider) changed(r record) {
	p.watching.Lock()
	defer p.watching.Unlock()
	for w := range p.watchers {
		if w.installation != r.Installation {
			continue
		}
		select {
		case w.hints <- r.Machine:
		default:
		}
	}
}

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
