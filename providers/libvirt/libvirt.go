// Package libvirt makes machines out of the libvirt domains of an operator's own
// hosts.
//
// Invariants: nothing is known but what the hosts know: a machine is a domain
// with its tags in its metadata, defined before anything else of it is made and
// undefined after everything else of it is gone, and a volume says in its name
// whose it is. Nothing without these is touched. That a machine is nowhere is
// said only when every host has answered.
package libvirt

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
)

// Name is what this provider is called.
const Name = "libvirt"

// Options are what a Provider is made with.
type Options struct {
	// Version is the program's own.
	Version string
	Log     *zap.Logger
	Now     func() time.Time
	// Rand answers a number from 0 to below n: it spreads machines over a
	// host's ports.
	Rand func(n int) int
}

// Provider makes machines on hosts that run libvirt.
type Provider struct {
	opts Options
	// life ends with Close, and with it the work in the background, which is
	// taken up again when its machine is next asked for.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup
	keys keyed

	mu sync.Mutex
	// mu guards config, which is nil until Configure and is replaced as a
	// whole, and begun: the machines that something is done to in the
	// background.
	config *config
	begun  map[providers.MachineID]struct{}
}

var (
	_ providers.Provider     = (*Provider)(nil)
	_ providers.Consoler     = (*Provider)(nil)
	_ providers.DataAttacher = (*Provider)(nil)
	_ providers.Watcher      = (*Provider)(nil)
)

// New answers a provider that waits for Configure.
func New(opts Options) *Provider {
	if opts.Log == nil {
		opts.Log = zap.NewNop()
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Rand == nil {
		opts.Rand = rand.IntN
	}
	life, end := context.WithCancel(context.Background())
	return &Provider{opts: opts, life: life, end: end, keys: keyed{held: map[string]*turn{}}, begun: map[providers.MachineID]struct{}{}}
}

// config is what Configure settled. It does not change.
type config struct {
	settings
	hosts []*host
}

// Info says who the provider is.
func (p *Provider) Info(context.Context) (providers.Info, error) {
	info := providers.Info{
		Name:            Name,
		Version:         p.opts.Version,
		ContractVersion: providers.ContractVersion,
		Capabilities:    []providers.Capability{providers.CapabilityConsole, providers.CapabilityAttachData, providers.CapabilityWatch},
		ConfigSchema:    schema,
	}
	if c, err := p.configured(); err == nil {
		info.Notes = c.notes()
	}
	return info, nil
}

func (c *config) notes() []string {
	var out []string
	for _, h := range c.hosts {
		if h.Accel == accelTCG {
			out = append(out, "host "+h.Name+": software emulation")
		}
		if h.Drained {
			out = append(out, "host "+h.Name+": drained")
		}
	}
	return out
}

func (p *Provider) configured() (*config, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config == nil {
		return nil, &providers.Error{Code: providers.CodeUnavailable, Message: "the provider is not configured"}
	}
	return p.config, nil
}

// Configure takes the hosts. It reaches none: one that is down must not keep
// the others from being used.
func (p *Provider) Configure(_ context.Context, raw []byte) error {
	s, err := parseSettings(raw)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var before []*host
	if p.config != nil {
		before = p.config.hosts
	}
	next := &config{settings: s}
	for _, hs := range s.Hosts {
		next.hosts = append(next.hosts, takeHost(before, hs))
	}
	p.config = next
	for _, h := range before {
		if !slices.Contains(next.hosts, h) {
			h.close()
		}
	}
	return nil
}

// takeHost answers the host of before that has the same settings, or another.
func takeHost(before []*host, s hostSettings) *host {
	for _, h := range before {
		if h.hostSettings == s {
			return h
		}
	}
	return &host{hostSettings: s}
}

// Close lets go of the hosts, on which the machines go on running.
func (p *Provider) Close() error {
	p.mu.Lock()
	p.end()
	p.mu.Unlock()
	p.work.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config != nil {
		for _, h := range p.config.hosts {
			h.close()
		}
	}
	p.config = nil
	return nil
}
