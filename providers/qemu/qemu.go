// Package qemu makes machines out of local processes: QEMU for the machine,
// swtpm for its TPM.
//
// Invariants: a machine is a directory that appears whole, with its record, and
// is moved away whole; every step between is made again or finished after a
// crash at any point. One plugin at a time holds the state directory. QEMU and
// swtpm run in sessions of their own and outlive the plugin; they are found
// again by pid and start time, and by their command line where a crash came
// before these were written down. A machine's TPM, firmware variables, disks
// and port are made once and stay until it is deleted.
package qemu

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// Name is what this provider is called.
const Name = "qemu"

// The one region and size that there is.
const (
	region = "local"
	size   = "standard"
)

// Options are what a Provider is made with.
type Options struct {
	// Version is the program's own.
	Version string
	Log     *zap.Logger
	Now     func() time.Time
	// Rand answers a number from 0 to below n: it spreads machines over the
	// ports, so that two providers seldom try the same one.
	Rand func(n int) int
}

// Provider makes machines on this host.
type Provider struct {
	opts Options
	// life ends with Close, and with it the work on machines, which is taken
	// up again by the next process.
	life context.Context
	end  context.CancelFunc
	work sync.WaitGroup
	// configuring lets one Configure run at a time.
	configuring sync.Mutex

	mu sync.Mutex
	// mu guards the fields below. config is nil until Configure and is
	// replaced as a whole.
	config   *config
	unlock   func() error
	machines map[providers.MachineID]*machine
	// ports are the ones that machines have.
	ports map[int]struct{}
	// addresses are those that machines have.
	addresses map[netip.Addr]struct{}
	// images holds a lock for each release whose image was asked for.
	images map[attest.ReleaseDigest]*sync.Mutex

	hints sdk.Hints
}

var (
	_ providers.Provider     = (*Provider)(nil)
	_ providers.Consoler     = (*Provider)(nil)
	_ providers.Snapshotter  = (*Provider)(nil)
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
	return &Provider{
		opts:      opts,
		life:      life,
		end:       end,
		machines:  map[providers.MachineID]*machine{},
		ports:     map[int]struct{}{},
		addresses: map[netip.Addr]struct{}{},
		images:    map[attest.ReleaseDigest]*sync.Mutex{},
	}
}

// config is what Configure settled. It does not change.
type config struct {
	settings
	tools tools
	// note says how guests run, for Info.
	note string
	boot string
}

func (c *config) path(elem ...string) string {
	return filepath.Join(append([]string{c.StateDir}, elem...)...)
}

func (c *config) machineDir(id providers.MachineID) string {
	return c.path(machinesDir, string(id))
}

func (c *config) socket(id providers.MachineID) string {
	return filepath.Join(c.RuntimeDir, socketName(id))
}

// Info says who the provider is and, once configured, how its guests run.
func (p *Provider) Info(context.Context) (providers.Info, error) {
	info := providers.Info{
		Name:            Name,
		Version:         p.opts.Version,
		ContractVersion: providers.ContractVersion,
		Capabilities: []providers.Capability{
			providers.CapabilityConsole, providers.CapabilitySnapshot, providers.CapabilityAttachData, providers.CapabilityWatch,
		},
		ConfigSchema: schema,
	}
	if c := p.current(); c != nil && c.note != "" {
		info.Notes = []string{c.note}
	}
	return info, nil
}

func (p *Provider) current() *config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

// configured answers the configuration or the error that there is none.
func (p *Provider) configured() (*config, error) {
	if c := p.current(); c != nil {
		return c, nil
	}
	return nil, &providers.Error{Code: providers.CodeUnavailable,
		Message: "the provider is not configured"}
}

// Configure takes the state directory, and with the first call finds the
// machines that are in it.
func (p *Provider) Configure(ctx context.Context, raw []byte) error {
	p.configuring.Lock()
	defer p.configuring.Unlock()
	c, err := newConfig(raw)
	if err != nil {
		return err
	}
	old := p.current()
	if old == nil {
		return p.configureFirst(ctx, c)
	}
	if old.StateDir != c.StateDir || old.RuntimeDir != c.RuntimeDir {
		return providers.Errorf(providers.CodeInvalid, "state_dir and runtime_dir cannot change while the provider runs")
	}
	if err := c.chooseAccelerator(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config = c
	return nil
}

// newConfig checks settings and tools, and touches nothing.
func newConfig(raw []byte) (*config, error) {
	s, err := parseSettings(raw)
	if err != nil {
		return nil, err
	}
	t, err := findTools()
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if err := s.limitsReady(); err != nil {
		return nil, err
	}
	if n := s.Network; n != nil {
		if err := n.Ready(); err != nil {
			e := providers.Errorf(providers.CodeInvalid, "settings: %s", err)
			e.Hint = "ip netns add makes a namespace; entering one and making network cards there takes CAP_SYS_ADMIN and CAP_NET_ADMIN"
			return nil, e
		}
	}
	return &config{settings: s, tools: t, boot: boot}, nil
}

// configureFirst takes the state directory, and gives it back when it cannot
// use it.
func (p *Provider) configureFirst(ctx context.Context, c *config) error {
	if err := c.makeDirs(); err != nil {
		return failure(err, "making the state directory")
	}
	unlock, err := takeLock(ctx, c.path(lockFile))
	if err != nil {
		return err
	}
	machines, err := p.takeOver(ctx, c)
	if err != nil {
		return errors.Join(err, unlock())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.config, p.unlock = c, unlock
	for _, m := range machines {
		p.machines[m.record.Machine] = m
		m.mu.Lock()
		p.takePlace(m.record)
		p.resume(c, m)
		if m.alive() {
			p.serveLeases(c, m)
			p.watchEnd(c, m, nil)
		}
		m.mu.Unlock()
	}
	p.work.Go(func() { p.watchConsoles(c) })
	return nil
}

// takeOver readies the state directory and finds the machines in it.
func (p *Provider) takeOver(ctx context.Context, c *config) ([]*machine, error) {
	if err := endUsers(ctx, c.path(tempDir)+"/"); err != nil {
		return nil, failure(err, "ending what a crash left")
	}
	if err := clearDir(c.path(tempDir)); err != nil {
		return nil, failure(err, "removing what a crash left")
	}
	if err := c.ensureCA(p.opts.Now()); err != nil {
		return nil, failure(err, "making the TPMs' CA")
	}
	if err := c.chooseAccelerator(ctx); err != nil {
		return nil, err
	}
	machines, err := c.findMachines()
	return machines, failure(err, "finding machines again")
}

func (c *config) makeDirs() error {
	for _, dir := range []string{c.RuntimeDir, c.StateDir, c.path(machinesDir), c.path(imagesDir), c.path(keptDir), c.path(snapshotDir), c.path(tempDir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	return nil
}

func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	return err
}

// lockPatience is how long a plugin whose host has died may keep the state
// directory from the next one.
const lockPatience = 10 * time.Second

// takeLock makes this process the only one that uses the state directory. The
// kernel gives the lock back when the process dies.
func takeLock(ctx context.Context, path string) (release func() error, err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	release, err = statefile.LockWithin(ctx, path)
	if errors.Is(err, statefile.ErrLocked) {
		return nil, providers.Errorf(providers.CodeUnavailable, "another provider process uses %s", filepath.Dir(path))
	}
	if err != nil {
		return nil, failure(err, "locking the state directory")
	}
	return release, nil
}

// Offerings answers the one size there is, as it is configured now.
func (p *Provider) Offerings(context.Context) ([]providers.Offering, error) {
	c, err := p.configured()
	if err != nil {
		return nil, err
	}
	o := c.offering()
	o.Available = p.available(c)
	return []providers.Offering{o}, nil
}

// offering is what machines are made as from now on, but for how many.
func (c *config) offering() providers.Offering {
	return providers.Offering{Region: region, Size: size, VCPUs: c.VCPUs, MemoryBytes: c.MemoryBytes}
}

// Close lets go of the machines, which go on running, and of the state
// directory.
func (p *Provider) Close() error {
	p.end()
	p.work.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.machines {
		m.letGo()
	}
	p.machines = map[providers.MachineID]*machine{}
	p.config = nil
	if p.unlock == nil {
		return nil
	}
	err := p.unlock()
	p.unlock = nil
	return err
}

// find answers a machine that is there.
func (p *Provider) find(id providers.MachineID) (*machine, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.machines[id]
	return m, ok
}

// ids answers the machines there are, in order.
func (p *Provider) ids() []providers.MachineID {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]providers.MachineID, 0, len(p.machines))
	for id := range p.machines {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}
