package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"
)

// The ways that a call fails by the module's fault.
var (
	ErrTime   = errors.New("the function took longer than it may")
	ErrOutput = errors.New("the function wrote more than it may")
	ErrMemory = errors.New("the function needs more memory than it may have")
	// ErrFailed is a status other than 0, or a trap.
	ErrFailed = errors.New("the function failed")
)

// Call is one call of a program.
type Call struct {
	// Args are its arguments, the first being its name, and Variables its
	// environment, as NAME=VALUE.
	Args, Variables []string
	Input           []byte
	// Time, Memory and Output bound it; of what it writes to standard error
	// Log bytes are kept, the first.
	Time                time.Duration
	Memory, Output, Log int64
	// Host answers the calls of the host's function; nil for none.
	Host Host
	// HostCalls bounds them.
	HostCalls int64
}

// Outcome is what a call came to, whether or not it failed.
type Outcome struct {
	Output []byte
	Log    []byte
	// Status is the one that it ended with.
	Status    uint32
	Took      time.Duration
	Peak      int64
	HostCalls int64
}

// running is a call under way.
type running struct {
	*Call
	memory memory
	out    *capped
	log    *capped
	host   exchange
}

type runningKey struct{}

func (c *Call) begin() *running {
	return &running{
		Call: c, memory: memory{most: c.Memory},
		out: &capped{left: c.Output, refuse: true}, log: &capped{left: c.Log},
		host: exchange{host: c.Host, left: c.HostCalls},
	}
}

// Run makes a call. Errors are ErrTime, ErrOutput, ErrMemory, ErrFailed, and
// the context's where it ended.
func (p *Program) Run(ctx context.Context, c Call) (Outcome, error) {
	if p.least > c.Memory {
		return Outcome{}, fmt.Errorf("%w: it begins with %d bytes", ErrMemory, p.least)
	}
	within, cancel := context.WithTimeout(ctx, c.Time)
	defer cancel()
	r := c.begin()
	r.memory.bytes = p.spares.take()
	defer r.memory.giveBack(&p.spares)
	began := p.env.Now()
	m, err := p.instantiate(within, r, p.config(within, &c).WithStdout(r.out).WithStderr(r.log))
	if m != nil {
		err = errors.Join(err, m.Close(context.WithoutCancel(ctx)))
	}
	o := Outcome{
		Output: r.out.kept.Bytes(), Log: r.log.kept.Bytes(), Took: p.env.Now().Sub(began),
		Peak: r.memory.peak, HostCalls: r.host.made,
	}
	return o, r.judge(ctx, within, &o, err)
}

// judge says what the end of a call means.
func (r *running) judge(ctx, within context.Context, o *Outcome, err error) error {
	exit, exited := errors.AsType[*sys.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("calling: %w", context.Cause(ctx))
	case within.Err() != nil:
		return fmt.Errorf("%w: %s", ErrTime, r.Time)
	case r.out.over:
		return fmt.Errorf("%w: %d bytes", ErrOutput, r.Output)
	case err == nil, exited && exit.ExitCode() == 0:
		return nil
	case exited:
		o.Status = exit.ExitCode()
		return fmt.Errorf("%w: status %d", ErrFailed, o.Status)
	}
	reason, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%w: %.200s", ErrFailed, reason)
}

func (p *Program) instantiate(ctx context.Context, r *running, config wazero.ModuleConfig) (api.Module, error) {
	ctx = experimental.WithMemoryAllocator(context.WithValue(ctx, runningKey{}, r), &r.memory)
	return p.runtime.InstantiateModule(ctx, p.compiled, config)
}

// config is what every call of a module sees.
func (p *Program) config(ctx context.Context, c *Call) wazero.ModuleConfig {
	began := p.env.Now()
	config := wazero.NewModuleConfig().WithName("").WithArgs(c.Args...).WithStdin(bytes.NewReader(c.Input)).
		WithRandSource(p.env.Random).
		WithWalltime(func() (int64, int32) {
			now := p.env.Now()
			return now.Unix(), int32(now.Nanosecond())
		}, sys.ClockResolution(time.Microsecond)).
		WithNanotime(func() int64 { return int64(p.env.Now().Sub(began)) }, sys.ClockResolution(1)).
		WithNanosleep(func(ns int64) { sleep(ctx, time.Duration(ns)) })
	for _, v := range c.Variables {
		name, value, _ := strings.Cut(v, "=")
		config = config.WithEnv(name, value)
	}
	if mounted, ok := wazero.NewFSConfig().(sysfs.FSConfig); ok {
		config = config.WithFSConfig(mounted.WithSysFSMount(newScratch(), "/tmp"))
	}
	return config
}

// sleep ends with the call.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// capped keeps the first bytes of what is written. What is more it drops, or
// refuses.
type capped struct {
	kept   bytes.Buffer
	left   int64
	refuse bool
	over   bool
}

var _ io.Writer = (*capped)(nil)

func (c *capped) Write(b []byte) (int, error) {
	fits := min(int64(len(b)), c.left)
	c.kept.Write(b[:fits])
	c.left -= fits
	if fits == int64(len(b)) {
		return len(b), nil
	}
	c.over = true
	if c.refuse {
		return int(fits), io.ErrShortWrite
	}
	return len(b), nil
}
