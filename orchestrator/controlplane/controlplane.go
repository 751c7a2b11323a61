// Package controlplane puts a control plane together and runs it.
//
// Invariants: the state directory is taken before anything else is touched, so
// that a second control plane on it changes nothing; every address is bound
// before any work begins; and no key that signs releases is ever read here.
package controlplane

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/api"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/monitor"
	"github.com/toolshed-cloud/shed/orchestrator/reconcile"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
	"github.com/toolshed-cloud/shed/orchestrator/voucher"
	"github.com/toolshed-cloud/shed/providers"
)

// Options are what a control plane is made from; all are needed.
type Options struct {
	// Dir is the control plane's own directory.
	Dir    string
	Config config.Config
	// Provider starts one of the configuration's, by its name.
	Provider func(ctx context.Context, name string) (providers.Provider, error)
	Clock    func() time.Time
	Random   io.Reader
	Logger   *zap.Logger
}

// Addresses are where a running control plane listens, as its directory tells
// its clients.
type Addresses = adminclient.Addresses

// installationKey is the meta key of this control plane's id at providers.
const installationKey = "installation"

// The files in the directory.
const (
	AddressesFile = adminclient.AddressesFile
	TokenFile     = adminclient.TokenFile
	SecretFile    = adminclient.SecretFile
	agentKeyFile  = "agent.key"
)

// ControlPlane is a control plane that holds its directory and its addresses.
type ControlPlane struct {
	Options
	store     *sqlite.Store
	providers map[string]plugged
	metrics   *monitor.Metrics
	secret    signup.Secret
	key       crypto.PublicKey
	// resultKey signs verdicts and the heads of their chain.
	resultKey *ecdsa.PrivateKey
	listeners listeners
	rec       *reconcile.Reconciler
	enrol     *enrol.Server
	// vouchers are for the machines of providers that name endorsement keys.
	vouchers map[string]*voucher.Voucher
	// log is nil where no transparency log is run.
	log *translog.Log

	// looking guards found and lookedAt, the last answer of ready.
	looking  sync.Mutex
	found    error
	lookedAt time.Time
}

// Open takes the directory and the addresses and starts the providers. Errors
// are config.ErrConfig, *LostError, *AddressError, those of sqlite.Open and
// the providers'.
func Open(ctx context.Context, o Options) (*ControlPlane, error) {
	return open(ctx, o, (*ControlPlane).checkState, (*ControlPlane).checkSecrets, (*ControlPlane).openStore, (*ControlPlane).listen, (*ControlPlane).readKeys, (*ControlPlane).readResultKey, (*ControlPlane).openLog,
		(*ControlPlane).openProviders, (*ControlPlane).openVouchers, (*ControlPlane).checkTrustAnchors, (*ControlPlane).checkEndorsements, (*ControlPlane).checkPlaces, (*ControlPlane).assemble, func(p *ControlPlane, _ context.Context) error { return p.publish() })
}

// OpenToPowerOff takes the directory and starts the providers, and listens
// nowhere. Errors are *LostError, those of sqlite.Open and the providers'.
func OpenToPowerOff(ctx context.Context, o Options) (*ControlPlane, error) {
	p, err := open(ctx, o, (*ControlPlane).checkState, (*ControlPlane).openStore, (*ControlPlane).openProviders)
	if err != nil {
		return nil, err
	}
	p.rec = reconcile.New(p.parts(reconcile.Policy{Limits: p.Config.Limits, Provider: p.Config.ProviderName}))
	return p, nil
}

// open takes one thing after another; where one is not to be had, it lets go
// of those before.
func open(ctx context.Context, o Options, steps ...func(*ControlPlane, context.Context) error) (*ControlPlane, error) {
	p := &ControlPlane{Options: o}
	for _, step := range steps {
		if err := step(p, ctx); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// Close gives everything back; machines go on. It is harmless twice.
func (p *ControlPlane) Close() error {
	var errs []error
	errs = append(errs, p.listeners.close())
	for name, provider := range p.providers {
		errs = append(errs, provider.Close())
		delete(p.providers, name)
	}
	if p.log != nil {
		errs = append(errs, p.log.Close())
	}
	if p.store != nil {
		errs = append(errs, p.store.Close())
		p.store = nil
	}
	return errors.Join(errs...)
}

// Addresses are where it listens.
func (p *ControlPlane) Addresses() Addresses { return p.listeners.addresses() }

// PowerOff powers every machine off and returns when all are, or ctx ends.
// Errors are the provider's and ctx's.
func (p *ControlPlane) PowerOff(ctx context.Context) error { return p.rec.Halt(ctx) }

func (p *ControlPlane) openStore(ctx context.Context) (err error) {
	p.store, err = sqlite.Open(ctx, p.Dir)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	p.metrics = monitor.New(p.store)
	return nil
}

func (p *ControlPlane) readKeys(ctx context.Context) (err error) {
	if p.secret, err = p.readSecret(ctx); err != nil {
		return err
	}
	const key = "release.key_file"
	if p.Config.ReleaseKeyFile == "" {
		return p.Config.Errorf(key, errors.New("is not set: without it no release can be accepted"))
	}
	text, err := os.ReadFile(p.Config.ReleaseKeyFile)
	if err != nil {
		return p.Config.Errorf(key, err)
	}
	if p.key, err = release.ParsePublicKey(text); err != nil {
		return p.Config.Errorf(key, fmt.Errorf("%s: %w", p.Config.ReleaseKeyFile, err))
	}
	return api.AdminToken(ctx, p.store, filepath.Join(p.Dir, TokenFile), p.Random)
}

// readSecret reads the webhook secret, drawing one where none is configured
// and none was drawn before.
func (p *ControlPlane) readSecret(ctx context.Context) (signup.Secret, error) {
	name := p.Config.SecretFile
	if name == "" {
		name = filepath.Join(p.Dir, SecretFile)
		if err := p.drawSecret(ctx, name); err != nil {
			return signup.Secret{}, err
		}
	}
	text, err := os.ReadFile(name)
	const key = "webhook.secret_file"
	if err != nil {
		return signup.Secret{}, p.Config.Errorf(key, err)
	}
	if err := checkSecret(name); err != nil {
		return signup.Secret{}, p.Config.Errorf(key, err)
	}
	secret, err := signup.ParseSecret(string(text))
	if err != nil {
		return secret, p.Config.Errorf(key, fmt.Errorf("%s: %w", name, err))
	}
	return secret, nil
}

// steady is time that goes on evenly whatever the wall clock is set to.
func steady() func() time.Duration {
	began := time.Now()
	return func() time.Duration { return time.Since(began) }
}

func (p *ControlPlane) parts(policy reconcile.Policy) reconcile.Parts {
	return reconcile.Parts{
		Store: p.store, Queue: monitor.Queue{Queue: p.store, Metrics: p.metrics},
		Providers: p.measured(), Watchers: able[providers.Watcher](p, providers.CapabilityWatch),
		Snapshotters: able[providers.Snapshotter](p, providers.CapabilitySnapshot),
		Attachers:    able[providers.DataAttacher](p, providers.CapabilityAttachData),
		Clock:        p.Clock, Steady: steady(), Random: p.Random, Logger: p.Logger.Named("reconcile"), Trap: failpoint.Here, Policy: policy,
	}
}

func (p *ControlPlane) assemble(ctx context.Context) error {
	c := p.Config
	// Before the installation's id, which says that there may be machines.
	certificate, spki, err := p.agentCertificate(ctx)
	if err != nil {
		return err
	}
	installation, err := p.meta(ctx, installationKey, func() (string, error) { return orchestrator.NewID(p.Random) })
	if err != nil {
		return err
	}
	p.rec = reconcile.New(p.parts(reconcile.Policy{
		Installation: providers.InstallationID(installation),
		ControlPlane: p.advertised(), ControlPlaneSPKI: spki,
		Places: placesOf(c.Places), Plans: plansOf(c.Plans), Provider: c.ProviderName, DataBytes: c.DataBytes, Release: c.DefaultRelease, Withdrawn: p.withdrawn,
		Machines: c.Machines, Repairs: c.Repairs, Limits: c.Limits,
		HeartbeatLost: c.HeartbeatLost, OrphanGrace: c.OrphanGrace,
	}))
	p.enrol = enrol.New(enrol.Parts{
		Store: p.store, Certificate: certificate, ResultKey: p.resultKey, Appraise: verifier.Appraise,
		TrustAnchors: func() ([]verifier.TrustAnchor, error) { return readTrustAnchors(c.TrustAnchors) }, MinimumTier: c.MinimumTier,
		Endorsements: func() ([]byte, error) { return readEndorsements(c.Endorsements) }, Voucher: p.voucher,
		Limits: c.Limits, HeartbeatEvery: c.Heartbeat, Proof: p.proof, ProofEvery: c.LogRefresh, Withdrawn: p.withdrawn, Clock: p.Clock, Random: p.Random, Logger: p.Logger.Named("enrol"), Trap: failpoint.Here,
	})
	if c.MinimumTier == attest.TierSoftware {
		p.Logger.Warn("the minimum tier is software: whoever runs a machine can forge what it proves")
	}
	return nil
}

// advertised is what machines dial.
func (p *ControlPlane) advertised() string {
	host, port, err := net.SplitHostPort(p.Config.Advertise)
	if err != nil || port != "0" {
		return p.Config.Advertise
	}
	_, port, err = net.SplitHostPort(p.Addresses().Agents)
	if err != nil {
		return p.Config.Advertise
	}
	return net.JoinHostPort(host, port)
}

// meta reads a value that is drawn once and then stays.
func (p *ControlPlane) meta(ctx context.Context, key string, generate func() (string, error)) (value string, err error) {
	return value, p.store.Update(ctx, func(tx store.Tx) error {
		value, err = tx.Meta(key)
		if !errors.Is(err, orchestrator.ErrNotFound) {
			return err
		}
		if value, err = generate(); err != nil {
			return err
		}
		return tx.PutMeta(key, value)
	})
}

func (p *ControlPlane) publish() error {
	b, err := json.MarshalIndent(p.Addresses(), "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the addresses: %w", err)
	}
	return statefile.Write(filepath.Join(p.Dir, AddressesFile), 0o600, append(b, '\n'))
}
