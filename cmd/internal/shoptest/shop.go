// Package shoptest is a control plane on the memory provider, whose machines
// are software TPMs with the agent's own enrolment code, for the tests of the
// programs that speak to one or are one.
//
// Invariants: everything is the product's own but the provider and what a
// machine measures; everything ends with the test.
package shoptest

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	agentapi "github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

// Shop is one control plane and its machines.
type Shop struct {
	// State is the state directory, Release one with a signed release.
	State, Release string
	Cloud          *Cloud
	// Stop ends the control plane.
	Stop func() error

	t   *testing.T
	tpm *swtpmtest.TPM
	// on is the provider where that is not Cloud.
	on    providers.Provider
	flags []string
}

// Run serves until ctx ends, and calls opened once everything is bound.
type Run func(ctx context.Context, o controlplane.Options, opened func(*controlplane.ControlPlane)) error

// Serve is the shortest Run.
func Serve(ctx context.Context, o controlplane.Options, opened func(*controlplane.ControlPlane)) error {
	p, err := controlplane.Open(ctx, o)
	if err != nil {
		return err
	}
	defer p.Close() //nolint:errcheck // the test is over
	opened(p)
	return p.Run(ctx)
}

// Cloud boots an agent for each machine that is made.
type Cloud struct {
	*memory.Provider
	booted func(agentapi.Config, agentapi.Token)
}

// Create makes a machine as the memory provider does, and boots it.
func (c *Cloud) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	m, err := c.Provider.Create(ctx, req)
	if err != nil {
		return m, err
	}
	return m, start(req, c.booted)
}

// start boots what a machine was configured to be.
func start(req providers.CreateRequest, booted func(agentapi.Config, agentapi.Token)) error {
	encoded, token, err := agentapi.DecodeDrive(req.Spec.Config)
	if err != nil {
		return err
	}
	config, err := agentapi.DecodeConfig(encoded)
	if err != nil {
		return err
	}
	booted(config, token)
	return nil
}

// New starts a control plane by run. With altered, machines measure another
// image than the release's.
func New(t *testing.T, altered bool, run Run) *Shop {
	t.Helper()
	dir := t.TempDir()
	s := &Shop{t: t, Release: dir, State: filepath.Join(dir, "state"), tpm: swtpmtest.Start(t)}
	s.writeRelease()
	s.Cloud = &Cloud{Provider: memory.New(time.Now), booted: func(c agentapi.Config, token agentapi.Token) { s.boot(c, token, altered) }}
	s.Start(run)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// NewOn is New on another cloud, with more of the configuration: what the cloud
// makes starts as New's machines do.
func NewOn(t *testing.T, run Run, on providers.Provider, flags ...string) *Shop {
	t.Helper()
	dir := t.TempDir()
	s := &Shop{t: t, Release: dir, State: filepath.Join(dir, "state"), tpm: swtpmtest.Start(t)}
	s.writeRelease()
	s.flags = flags
	s.on = &booting{on, func(c agentapi.Config, token agentapi.Token) { s.boot(c, token, false) }}
	s.Start(run)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// booting starts what is made.
type booting struct {
	providers.Provider
	booted func(agentapi.Config, agentapi.Token)
}

func (b *booting) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	m, err := b.Provider.Create(ctx, req)
	if err != nil {
		return m, err
	}
	return m, start(req, b.booted)
}

// Configure changes nothing: the test has configured the provider.
func (b *booting) Configure(context.Context, []byte) error { return nil }

// Close leaves the provider to the test, which starts the control plane again.
func (b *booting) Close() error { return nil }

// Options are those of the shop's control plane.
func (s *Shop) Options(c config.Config) controlplane.Options {
	return controlplane.Options{
		Dir: filepath.Join(s.State, "control"), Config: c, Clock: time.Now, Random: rand.Reader,
		Logger: zaptest.NewLogger(s.t, zaptest.Level(zap.InfoLevel)),
		Provider: func(context.Context, string) (providers.Provider, error) {
			if s.on != nil {
				return s.on, nil
			}
			return s.Cloud, nil
		},
	}
}

// Start starts the control plane again, after Stop.
func (s *Shop) Start(run Run) {
	s.t.Helper()
	c, _, err := config.Load(config.Sources{
		Env: func(string) (string, bool) { return "", false },
		Flags: append([]string{
			"listen.admin=127.0.0.1:0", "listen.webhooks=127.0.0.1:0", "listen.agents=127.0.0.1:0",
			"agents.advertise=127.0.0.1:0", "agents.heartbeat=200ms", "provider.name=memory",
			"release.key_file=" + filepath.Join(s.Release, "release.pub"),
			"policy.ek_roots=[{\"file\":\"" + filepath.Join(s.Release, "root.pem") + "\",\"tier\":\"software\"}]",
		}, s.flags...),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- run(ctx, s.Options(c), func(*controlplane.ControlPlane) { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatal(err)
	}
	s.Stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}
