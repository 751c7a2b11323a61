package libvirt

import (
	"context"
	"errors"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
)

// maxFailureBytes is what of a failure is kept in a domain's metadata.
const maxFailureBytes = 512

// SetPower writes down what is asked for and begins to bring it about.
func (p *Provider) SetPower(ctx context.Context, id providers.MachineID, on bool) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	var f found
	stop := false
	err = p.alone(ctx, string(id), "switching machine "+string(id), func(ctx context.Context) error {
		if f, err = p.find(ctx, c, id); err != nil {
			return err
		}
		return f.host.do(ctx, "switching a machine", func(l *link) error {
			stop, err = f.ask(l, on)
			if err != nil || !on {
				return err
			}
			return f.start(l)
		})
	})
	if err == nil && stop {
		p.background(id, func(ctx context.Context) { p.finishStop(ctx, c, f) })
	}
	return err
}

// ask writes down the power that is asked for.
func (f *found) ask(l *link, on bool) (stop bool, err error) {
	state, _, err := l.state(f.dom)
	if err != nil {
		return false, err
	}
	running := active(state)
	switch {
	case f.Deleting:
		return false, providers.Errorf(providers.CodeAborted, "machine %s is being deleted", f.Machine)
	case !f.Made:
		return false, providers.Errorf(providers.CodeAborted, "machine %s is being made", f.Machine)
	case on && !f.On && running:
		return false, providers.Errorf(providers.CodeAborted, "machine %s is being switched off", f.Machine)
	case f.On == on && running == on:
		return false, nil
	}
	f.On, f.Started, f.Failure = on, false, ""
	return !on && running, l.writeTags(f.dom, f.tags)
}

// start starts a machine that is to be on, and writes down what came of it.
func (f *found) start(l *link) error {
	if f.Started && f.Failure == "" {
		return nil
	}
	err := l.DomainCreate(f.dom)
	if is(err, libvirt.ErrOperationInvalid) {
		// It runs already, or somebody else has made it something else: how it
		// is will be seen.
		err = nil
	}
	var refused libvirt.Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	f.Started, f.Failure = true, ""
	if err != nil {
		f.Failure = refused.Message[:min(len(refused.Message), maxFailureBytes)]
	}
	return errors.Join(err, l.writeTags(f.dom, f.tags))
}

// finishStart starts a machine that was to be started.
func (p *Provider) finishStart(ctx context.Context, c *config, id providers.MachineID) {
	err := p.alone(ctx, string(id), "starting machine "+string(id), func(ctx context.Context) error {
		f, err := p.find(ctx, c, id)
		if err != nil {
			return err
		}
		if !f.On || !f.Made || f.Deleting {
			return nil
		}
		return f.host.do(ctx, "starting a machine", f.start)
	})
	if err != nil {
		p.opts.Log.Warn("starting a machine", zap.String("machine", string(id)), zap.Error(err))
	}
}

// stopPoll is how often a machine that shuts down is looked at.
const stopPoll = 50 * time.Millisecond

// finishStop presses the power button, and cuts the power after the grace
// period. It does not keep others from the machine while it waits.
func (p *Provider) finishStop(ctx context.Context, c *config, f found) {
	patient, cancel := context.WithTimeout(ctx, time.Duration(c.Grace))
	defer cancel()
	err := f.host.do(ctx, "shutting a machine down", func(l *link) error { return l.DomainShutdown(f.dom) })
	if err != nil {
		p.opts.Log.Info("pressing the power button", zap.String("machine", string(f.Machine)), zap.Error(err))
	}
	tick := time.NewTicker(stopPoll)
	defer tick.Stop()
	for patient.Err() == nil {
		off := false
		err := f.host.do(ctx, "looking at a machine", func(l *link) error {
			state, _, err := l.state(f.dom)
			off = err == nil && !active(state)
			return err
		})
		if err != nil || off {
			return
		}
		select {
		case <-tick.C:
		case <-patient.Done():
		}
	}
	if ctx.Err() != nil {
		return
	}
	if err := p.cutPower(ctx, c, f.Machine); err != nil {
		p.opts.Log.Warn("cutting a machine's power", zap.String("machine", string(f.Machine)), zap.Error(err))
	}
}

// cutPower ends a machine that is to be off, if it still is.
func (p *Provider) cutPower(ctx context.Context, c *config, id providers.MachineID) error {
	return p.alone(ctx, string(id), "cutting the power of machine "+string(id), func(ctx context.Context) error {
		f, err := p.find(ctx, c, id)
		if err != nil || f.On {
			return err
		}
		return f.host.do(ctx, "cutting a machine's power", func(l *link) error { return l.destroy(f.dom) })
	})
}

// destroy is fine with a domain that does not run.
func (l *link) destroy(dom libvirt.Domain) error {
	err := l.DomainDestroy(dom)
	if is(err, libvirt.ErrOperationInvalid, libvirt.ErrNoDomain) {
		return nil
	}
	return err
}
