package qemu

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/qmp"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Get answers a machine as it is now.
func (p *Provider) Get(_ context.Context, id providers.MachineID) (providers.Machine, error) {
	c, err := p.configured()
	if err != nil {
		return providers.Machine{}, err
	}
	m, ok := p.find(id)
	if !ok {
		return providers.Machine{}, sdk.NotFound(id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.observe(c), nil
}

// SetPower writes down what is asked for and begins to bring it about.
func (p *Provider) SetPower(_ context.Context, id providers.MachineID, on bool) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	m, ok := p.find(id)
	if !ok {
		return sdk.NotFound(id)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.record
	switch {
	case r.Deleting:
		return providers.Errorf(providers.CodeAborted, "machine %s is being deleted", id)
	case r.On == on && (m.busy() || m.alive() == on):
		return nil
	case on && m.busy():
		return providers.Errorf(providers.CodeAborted, "machine %s is being switched off", id)
	}
	m.record.On, m.record.Failure = on, ""
	if on && !m.alive() {
		// Asked for anew: whoever finds this record without a process starts
		// one.
		m.record.QEMU, m.record.SWTPM = proc.ID{}, proc.ID{}
	}
	if err := m.record.write(c.machineDir(id)); err != nil {
		m.record = r
		return failure(err, "recording the power asked for")
	}
	switch {
	case on:
		p.beginPowerOn(c, m)
	default:
		p.beginPowerOff(c, m)
	}
	p.changed(m.record)
	return nil
}

// busy reports whether the machine's power is being seen to. The caller holds
// m.mu.
func (m *machine) busy() bool { return m.task != nil && !m.task.aside }

// beginPowerOn starts what is not running, with whatever is not made yet. The
// caller holds m.mu.
func (p *Provider) beginPowerOn(c *config, m *machine) {
	r := m.record
	p.begin(c, m, "starting", func(ctx context.Context) error {
		started := time.Now()
		if err := c.provision(ctx, r); err != nil {
			return err
		}
		provisioned := time.Now()
		m.mu.Lock()
		alive := m.alive()
		m.mu.Unlock()
		if alive {
			return nil
		}
		if err := p.launch(ctx, c, m); err != nil {
			// A plugin that closes leaves the machine to the next one.
			if p.life.Err() == nil {
				err = errors.Join(err, m.endProcesses(context.WithoutCancel(ctx)))
			}
			return err
		}
		p.opts.Log.Info("machine started", zap.String("machine", string(r.Machine)),
			zap.Duration("provision", provisioned.Sub(started)), zap.Duration("launch", time.Since(provisioned)))
		return p.markRan(c, m)
	})
}

func (p *Provider) markRan(c *config, m *machine) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.record.Ran {
		return nil
	}
	m.record.Ran = true
	if err := m.record.write(c.machineDir(m.record.Machine)); err != nil {
		return fmt.Errorf("writing the machine record: %w", err)
	}
	return nil
}

// beginPowerOff presses the power button, and cuts the power after the grace
// period. The caller holds m.mu.
func (p *Provider) beginPowerOff(c *config, m *machine) {
	id := m.record.Machine
	p.begin(c, m, "switching off", func(ctx context.Context) error {
		m.mu.Lock()
		qemu := m.qemu
		m.mu.Unlock()
		if qemu != nil && qemu.Alive() {
			patient, cancel := context.WithTimeout(ctx, time.Duration(c.Grace))
			defer cancel()
			if err := pressPowerButton(patient, c.socket(id)); err != nil {
				p.opts.Log.Warn("pressing the power button", zap.String("machine", string(id)), zap.Error(err))
			} else if err := qemu.Wait(patient); err != nil && ctx.Err() == nil {
				p.opts.Log.Warn("machine does not shut down, cutting its power", zap.String("machine", string(id)))
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := m.endProcesses(ctx); err != nil {
			return err
		}
		return removeFile(c.socket(id))
	})
}

func pressPowerButton(ctx context.Context, socket string) error {
	monitor, err := qmp.Dial(ctx, socket)
	if err != nil {
		return err
	}
	return errors.Join(monitor.Execute(ctx, "system_powerdown"), monitor.Close())
}

// endProcesses ends QEMU, which writes out what it holds, then its TPM.
func (m *machine) endProcesses(ctx context.Context) error {
	m.mu.Lock()
	qemu := m.qemu
	m.mu.Unlock()
	if qemu != nil {
		if err := qemu.End(ctx, stopPatience); err != nil {
			return err
		}
	}
	return m.endTPM(ctx)
}
