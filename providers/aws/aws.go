// Package aws makes machines out of EC2.
//
// Invariants: nothing is kept here that the account does not hold, but hints of
// what was just made and is not to be seen yet; everything made is tagged in
// the request that makes it; RunInstances carries a client token that is the
// machine's and its spec's, so that whatever is repeated makes one; only what
// carries the machine's tag is changed or deleted; and a data volume that may
// hold anything is deleted by Delete without keepData alone.
package aws

import (
	"context"
	"regexp"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
)

// Name is what this provider is called.
const Name = "aws"

// Options make a provider.
type Options struct {
	// Version is what Info says.
	Version string
	// Log takes what an operator should see; nil for nobody.
	Log *zap.Logger
	// A clock; nil for the system's.
	Now func() time.Time
}

// Provider speaks with EC2. The zero value is not ready: use New.
type Provider struct {
	version string
	log     *zap.Logger
	now     func() time.Time

	mu sync.Mutex
	// The fields below are guarded by mu. site is nil before Configure.
	site   *site
	busy   map[string]bool
	recent map[providers.MachineID]time.Time
}

var (
	_ providers.Provider     = (*Provider)(nil)
	_ providers.Consoler     = (*Provider)(nil)
	_ providers.Snapshotter  = (*Provider)(nil)
	_ providers.DataAttacher = (*Provider)(nil)
	_ providers.Endorser     = (*Provider)(nil)
)

// New answers a provider that waits for Configure.
func New(o Options) *Provider {
	p := &Provider{version: o.Version, log: o.Log, now: o.Now, busy: map[string]bool{}, recent: map[providers.MachineID]time.Time{}}
	if p.log == nil {
		p.log = zap.NewNop()
	}
	if p.now == nil {
		p.now = time.Now
	}
	return p
}

// Info needs no account.
func (p *Provider) Info(context.Context) (providers.Info, error) {
	return providers.Info{
		Name:            Name,
		Version:         p.version,
		ContractVersion: providers.ContractVersion,
		Capabilities: []providers.Capability{
			providers.CapabilityConsole, providers.CapabilitySnapshot, providers.CapabilityAttachData, providers.CapabilityEndorse,
		},
		ConfigSchema: []byte(Schema),
	}, nil
}

// Configure takes the settings; it asks AWS for nothing.
func (p *Provider) Configure(ctx context.Context, raw []byte) error {
	s, err := parseSettings(raw)
	if err != nil {
		return err
	}
	opened, err := open(ctx, s)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.site != nil && p.site.settings.Region != s.Region {
		return providers.Errorf(providers.CodeInvalid, "region cannot change while the provider runs: it is %s", p.site.settings.Region)
	}
	p.site = opened
	return nil
}

// Close ends nothing: every call has ended by then.
func (p *Provider) Close() error { return nil }

// ready is where calls go.
func (p *Provider) ready() (*site, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.site == nil {
		return nil, providers.Errorf(providers.CodeUnavailable, "the provider is not configured")
	}
	return p.site, nil
}

// name is what an id of ours may look like: filters of EC2 read more into some
// characters.
var name = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func checkMachine(id providers.MachineID) error {
	if !name.MatchString(string(id)) {
		return providers.Errorf(providers.CodeInvalid, "machine %q is no machine's id", id)
	}
	return nil
}

// claim makes sure that a thing is worked on once at a time. Errors are
// CodeAborted.
func (p *Provider) claim(what string) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[what] {
		return nil, providers.Errorf(providers.CodeAborted, "%s is being worked on", what)
	}
	p.busy[what] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.busy, what)
	}, nil
}

// enter is what every change of a machine begins with.
func (p *Provider) enter(id providers.MachineID) (s *site, release func(), err error) {
	if err := checkMachine(id); err != nil {
		return nil, nil, err
	}
	if s, err = p.ready(); err != nil {
		return nil, nil, err
	}
	release, err = p.claim("machine " + string(id))
	return s, release, err
}

// hintFor is how long EC2 may take to show what it has made.
const hintFor = 5 * time.Minute

// made remembers a machine as just made.
func (p *Provider) made(id providers.MachineID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, at := range p.recent {
		if p.now().Sub(at) > hintFor {
			delete(p.recent, other)
		}
	}
	p.recent[id] = p.now()
}

// seen forgets that a machine was just made.
func (p *Provider) seen(id providers.MachineID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.recent, id)
}

// unseen reports whether a machine was just made.
func (p *Provider) unseen(id providers.MachineID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.recent[id]
	return ok && p.now().Sub(at) <= hintFor
}

func notFound(id providers.MachineID) *providers.Error {
	return providers.Errorf(providers.CodeNotFound, "machine %s is not here", id)
}
