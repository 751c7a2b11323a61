package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/backoff"
	"github.com/toolshed-cloud/shed/providers"
)

// Supervisor is a provider in a process of its own. A process that ends is
// started again, with the settings it had; one that does not answer in time is
// killed, and so started again. Calls that were under way then fail with
// CodeUnavailable, or with CodeOutcomeUnknown where they may have made
// something; calls made meanwhile wait for the next attempt to start it.
type Supervisor struct {
	opts Options
	// cancel ends run; done is closed when it has returned.
	cancel  context.CancelFunc
	done    chan struct{}
	closed  error
	overdue *overdue

	mu sync.Mutex
	// The fields below are guarded by mu. Of process and broken at most one
	// is set, and both are empty until the first attempt after a death has
	// ended. changed is closed, and made anew, with every change of the two.
	process  *process
	broken   error
	changed  chan struct{}
	settings []byte
}

var (
	_ providers.Provider     = (*Supervisor)(nil)
	_ providers.Consoler     = (*Supervisor)(nil)
	_ providers.Snapshotter  = (*Supervisor)(nil)
	_ providers.DataAttacher = (*Supervisor)(nil)
	_ providers.Watcher      = (*Supervisor)(nil)
	_ providers.Endorser     = (*Supervisor)(nil)
)

// Open starts the plugin and keeps it running until Close. That the first
// start fails is Open's error.
func Open(ctx context.Context, opts Options) (*Supervisor, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	first, err := start(ctx, opts)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &Supervisor{
		opts:    opts,
		cancel:  cancel,
		done:    make(chan struct{}),
		overdue: newOverdue(opts.CallTimeout),
		process: first,
		changed: make(chan struct{}),
	}
	go s.overdue.run(run)
	go s.run(run, first)
	return s, nil
}

// Close stops the plugin; machines go on. A second Close is harmless.
func (s *Supervisor) Close() error {
	s.cancel()
	<-s.done
	return s.closed
}

// Pid is the plugin's process, 0 while there is none.
func (s *Supervisor) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.pid
}

// Kill ends the plugin's process by force, and returns when it is gone; the next
// one takes its place. Without a process it does nothing.
func (s *Supervisor) Kill() error {
	s.mu.Lock()
	p := s.process
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	p.kill()
	<-p.gone
	return nil
}

// run watches one process after the other.
func (s *Supervisor) run(ctx context.Context, p *process) {
	defer close(s.done)
	failures := 1
	for {
		started := time.Now()
		select {
		case <-ctx.Done():
			s.set(nil, providers.Errorf(providers.CodeUnavailable, "plugin %s is closed", s.opts.Name))
			s.closed = p.stop()
			return
		case <-p.gone:
		}
		s.set(nil, nil)
		s.opts.Log.Warn("plugin died, starting it again", zap.String("plugin", s.opts.Name), zap.Int("pid", p.pid))
		if err := p.stop(); err != nil {
			s.opts.Log.Warn("cleaning up after a plugin", zap.Error(err))
		}
		if time.Since(started) > s.opts.BackoffLimit {
			failures = 1
		}
		next, ok := s.revive(ctx, &failures)
		if !ok {
			return
		}
		p = next
	}
}

// revive tries until a process runs and is configured, or ctx ends. It counts
// each try as a failure, until the process has held out.
func (s *Supervisor) revive(ctx context.Context, failures *int) (*process, bool) {
	for ; ; *failures++ {
		select {
		case <-ctx.Done():
			s.set(nil, providers.Errorf(providers.CodeUnavailable, "plugin %s is closed", s.opts.Name))
			return nil, false
		case <-time.After(backoff.Pause(*failures, s.opts.Backoff, s.opts.BackoffLimit)):
		}
		p, err := s.restart(ctx)
		if err == nil {
			s.opts.Log.Info("plugin runs again", zap.String("plugin", s.opts.Name), zap.Int("pid", p.pid))
			return p, true
		}
		s.opts.Log.Error("plugin does not start", zap.String("plugin", s.opts.Name), zap.Error(err))
		s.set(nil, fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "plugin %s does not run", s.opts.Name), err))
	}
}

// restart starts a process and gives it the last settings before any call can
// reach it.
func (s *Supervisor) restart(ctx context.Context) (*process, error) {
	p, err := start(ctx, s.opts)
	if err != nil {
		return nil, err
	}
	if settings := s.lastSettings(); settings != nil {
		ctx, cancel := context.WithTimeout(ctx, s.opts.StartTimeout)
		defer cancel()
		if err := p.Configure(ctx, settings); err != nil {
			return nil, errors.Join(fmt.Errorf("configuring plugin %s again: %w", s.opts.Name, err), p.stop())
		}
	}
	s.set(p, nil)
	return p, nil
}

func (s *Supervisor) lastSettings() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

// set records how it stands and wakes whoever waits for that.
func (s *Supervisor) set(p *process, broken error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process, s.broken = p, broken
	close(s.changed)
	s.changed = make(chan struct{})
}

// live answers the running process, or waits for the attempt under way.
func (s *Supervisor) live(ctx context.Context) (*process, error) {
	for {
		s.mu.Lock()
		p, broken, changed := s.process, s.broken, s.changed
		s.mu.Unlock()
		switch {
		case p != nil:
			return p, nil
		case broken != nil:
			return nil, broken
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, providers.Errorf(providers.CodeUnavailable, "waiting for plugin %s: %s", s.opts.Name, context.Cause(ctx))
		}
	}
}

// bounded makes a call that ends in time. Where it did not and the plugin does
// not answer anything else either, the plugin hangs: it is killed, so that the
// next one takes its place.
func bounded[T any](ctx context.Context, s *Supervisor, call func(context.Context, *process) (T, error)) (T, error) {
	p, err := s.live(ctx)
	if err != nil {
		var none T
		return none, err
	}
	inTime, ended := s.overdue.begin(ctx)
	defer ended()
	answer, err := call(inTime, p)
	if err == nil || ctx.Err() != nil || !errors.Is(context.Cause(inTime), context.DeadlineExceeded) {
		return answer, err
	}
	if p.hung(ctx, s.opts.CallTimeout) {
		s.opts.Log.Error("plugin hangs, killing it", zap.String("plugin", s.opts.Name), zap.Int("pid", p.pid))
		p.kill()
	}
	return answer, fmt.Errorf("%w: plugin %s was given %s: %w", err, s.opts.Name, s.opts.CallTimeout, context.DeadlineExceeded)
}

// done makes a call without an answer one with an empty answer.
func done(err error) (struct{}, error) { return struct{}{}, err }

// Info asks the plugin who it is.
func (s *Supervisor) Info(ctx context.Context) (providers.Info, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) (providers.Info, error) { return p.Info(ctx) })
}

// Configure hands settings to the plugin and, once it accepted them, to every
// process that takes its place.
func (s *Supervisor) Configure(ctx context.Context, settings []byte) error {
	_, err := bounded(ctx, s, func(ctx context.Context, p *process) (struct{}, error) {
		if err := p.Configure(ctx, settings); err != nil {
			return struct{}{}, err
		}
		return done(s.configured(p, settings))
	})
	return err
}

func (s *Supervisor) configured(p *process, settings []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != p {
		return providers.Errorf(providers.CodeUnavailable, "plugin %s died while it was configured", s.opts.Name)
	}
	s.settings = slices.Clone(settings)
	return nil
}

// Offerings asks the plugin what it can make.
func (s *Supervisor) Offerings(ctx context.Context) ([]providers.Offering, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) ([]providers.Offering, error) { return p.Offerings(ctx) })
}

// EnsureImage has the plugin take in a release's disk.
func (s *Supervisor) EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	p, err := s.live(ctx)
	if err != nil {
		return err
	}
	return p.EnsureImage(ctx, image, progress)
}

// Create has the plugin make a machine.
func (s *Supervisor) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) (providers.Machine, error) { return p.Create(ctx, req) })
}

// Get asks the plugin for a machine.
func (s *Supervisor) Get(ctx context.Context, id providers.MachineID) (providers.Machine, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) (providers.Machine, error) { return p.Get(ctx, id) })
}

// List asks the plugin for a page of resources.
func (s *Supervisor) List(ctx context.Context, installation providers.InstallationID, page string) (providers.Page, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) (providers.Page, error) { return p.List(ctx, installation, page) })
}

// SetPower has the plugin switch a machine.
func (s *Supervisor) SetPower(ctx context.Context, id providers.MachineID, on bool) error {
	_, err := bounded(ctx, s, func(ctx context.Context, p *process) (struct{}, error) { return done(p.SetPower(ctx, id, on)) })
	return err
}

// Apply has the plugin bring a machine to what is desired.
func (s *Supervisor) Apply(ctx context.Context, change providers.Change) (providers.Machine, error) {
	return bounded(ctx, s, func(ctx context.Context, p *process) (providers.Machine, error) { return p.Apply(ctx, change) })
}

// Delete has the plugin destroy a machine.
func (s *Supervisor) Delete(ctx context.Context, id providers.MachineID, keepData bool) error {
	_, err := bounded(ctx, s, func(ctx context.Context, p *process) (struct{}, error) { return done(p.Delete(ctx, id, keepData)) })
	return err
}
