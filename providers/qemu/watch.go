package qemu

import (
	"context"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/qmp"
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

// watchEnd tells of the end of a machine's process, by a descriptor of its own, and
// starts one again that ended for its guest to start anew: QEMU says so in events,
// which is nil where another plugin started it. The caller holds m.mu.
func (p *Provider) watchEnd(c *config, m *machine, events net.Conn) {
	id, started := m.record.QEMU, time.Now()
	m.unheard = events != nil
	// Where it cannot be opened it has ended already, or nothing can be told.
	process, err := proc.Open(id)
	p.work.Go(func() {
		again := p.hear(events)
		m.heard(id, again)
		if err == nil {
			defer process.Close() //nolint:errcheck // it is only a descriptor
			if process.Wait(p.life) != nil {
				return
			}
		}
		if again && !p.pause(time.Until(started.Add(betweenStarts))) {
			return
		}
		p.ended(c, m, id)
	})
}

// betweenStarts is how long after its last start a guest that starts anew gets its
// next at the soonest. Its limits hold what it does, and not what a start costs: that
// is the host's.
const betweenStarts = time.Second

// pause is false where the provider closes first.
func (p *Provider) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.life.Done():
		return false
	}
}

// hear waits until QEMU ends, and is whether it says that this is in place of a reset.
func (p *Provider) hear(events net.Conn) bool {
	if events == nil {
		return false
	}
	monitor, err := qmp.Attach(p.life, events)
	if err != nil {
		return false
	}
	defer monitor.Close() //nolint:errcheck // it was only listened to
	reset, err := monitor.Shutdown(p.life)
	return err == nil && reset
}

// heard has the end of a process be no crash where its guest starts anew.
func (m *machine) heard(id proc.ID, anew bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record.QEMU == id {
		m.restarting, m.unheard = anew, false
	}
}

// ended starts a machine again whose guest asked for that, and tells who watches.
func (p *Provider) ended(c *config, m *machine, id proc.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() { p.changed(m.record) }()
	if m.record.QEMU != id || !m.restarting {
		return
	}
	m.restarting = false
	if !m.record.On || m.record.Deleting {
		return
	}
	// As where it is asked for anew. What started this process may not be through yet:
	// a guest can be faster.
	before := m.record
	m.record.QEMU, m.record.SWTPM = proc.ID{}, proc.ID{}
	if err := m.record.write(c.machineDir(m.record.Machine)); err != nil {
		m.record = before
		p.opts.Log.Error("writing the machine record", zap.Error(err))
		return
	}
	p.beginPowerOn(c, m)
}
