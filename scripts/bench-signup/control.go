package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/controlplane"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

const (
	keyFile  = "release.pub"
	rootFile = "ek-root.pem"
	diskFile = "disk.raw"
	diskText = "no machine reads this disk"
	// seedBatch is how many signups are seeded in one transaction.
	seedBatch = 500
	// readyMachine is the id of the machine that heartbeats.
	readyMachine = "aaaaaaaaaaaaaaaaaaaaaaaaaa"
	installation = "baaaaaaaaaaaaaaaaaaaaaaaaa"
)

// releaseOf is a release of which only the disk is ever read.
func releaseOf(dir string) (orchestrator.Release, error) {
	disk := release.File{Name: diskFile, SHA256: attest.Sum([]byte(diskText)), Bytes: int64(len(diskText))}
	registers := func(bytes int) map[string]string {
		value := strings.Repeat("00", bytes)
		return map[string]string{"4": value, "9": value, "11": value}
	}
	m := release.Manifest{
		Schema: release.SchemaVersion, Version: "1.0.0", Epoch: 1, Architecture: "amd64", StubVersion: 252,
		Disk: disk, UKI: release.File{Name: "uki.efi", SHA256: attest.Digest{1}, Bytes: 1},
		Boots:  []release.Boot{{SHA256: registers(32), SHA384: registers(48)}},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Digest{2}, Bytes: 1}},
	}
	manifest, err := m.Encode()
	if err != nil {
		return orchestrator.Release{}, fmt.Errorf("encoding a manifest: %w", err)
	}
	return orchestrator.Release{
		Digest: attest.ReleaseDigest{1}, Version: m.Version, Epoch: m.Epoch, Manifest: manifest, Bundle: []byte("{}"),
		DiskPath: filepath.Join(dir, diskFile), DiskSHA256: disk.SHA256, DiskBytes: disk.Bytes, AddedAt: time.Now(),
	}, nil
}

// seed makes a state directory with a release, instances that wait, and, where
// session is set, a ready one that heartbeats with that key.
func seed(ctx context.Context, dir string, waiting int, session attest.Digest) (err error) {
	if err := writeFiles(dir); err != nil {
		return err
	}
	rel, err := releaseOf(dir)
	if err != nil {
		return err
	}
	if _, _, err := enrol.LoadCertificate(filepath.Join(dir, "agent.key"), rand.Reader); err != nil {
		return err
	}
	s, err := sqlite.Open(ctx, dir)
	if err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = s.Update(ctx, func(tx store.Tx) error {
		if !session.IsZero() {
			if err := tx.Insert(readyInstance(session)); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutRelease(rel), tx.PutMeta("installation", installation))
	})
	for done := 0; err == nil && done < waiting; done += seedBatch {
		err = s.Update(ctx, func(tx store.Tx) error { return seedWaiting(tx, done, min(done+seedBatch, waiting)) })
	}
	return err
}

func seedWaiting(tx store.Tx, from, to int) error {
	desk := signup.Service{Clock: time.Now, Random: rand.Reader}
	for n := from; n < to; n++ {
		if _, err := desk.SignUp(tx, orchestrator.UserID(fmt.Sprintf("waiting-%d", n)), orchestrator.Wish{}, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

func readyInstance(session attest.Digest) orchestrator.Instance {
	now := time.Now()
	i := orchestrator.Instance{
		ID: readyMachine, User: "ready", SignedUp: now, CreatedAt: now, Desired: orchestrator.Present, Generation: 1,
		Machine: readyMachine, Created: true, Endpoint: "127.0.0.1:1", Plan: orchestrator.Plan{Release: attest.ReleaseDigest{1}},
		Enrolment: orchestrator.Enrolment{
			Session: session, Judged: true, Accepted: true, Verdict: "accepted", Running: true, Healthy: true, LastSeen: now,
		},
	}
	i.Enter(orchestrator.StateReady, "accepted", now, orchestrator.Limits{})
	return i
}

func writeFiles(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making a release key: %w", err)
	}
	// No machine proves itself here: any root will do to start with.
	ca := x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	root, err := x509.CreateCertificate(rand.Reader, &ca, &ca, public, private)
	if err != nil {
		return fmt.Errorf("making an endorsement root: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("encoding a release key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	rootText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})
	return errors.Join(os.WriteFile(filepath.Join(dir, keyFile), text, 0o600),
		os.WriteFile(filepath.Join(dir, rootFile), rootText, 0o600),
		os.WriteFile(filepath.Join(dir, diskFile), []byte(diskText), 0o600))
}

// serveControl is the control plane as `shed serve` runs it, over a provider
// in memory.
func serveControl(ctx context.Context, dir string, machines int) (err error) {
	c, _, err := config.Load(config.Sources{
		Env: func(string) (string, bool) { return "", false },
		Flags: []string{
			"listen.admin=127.0.0.1:0", "listen.webhooks=127.0.0.1:0", "listen.agents=127.0.0.1:0",
			"provider.name=memory", "release.key_file=" + filepath.Join(dir, keyFile),
			`policy.ek_roots=[{"file":"` + filepath.Join(dir, rootFile) + `","tier":"software"}]`, fmt.Sprintf("limits.machines=%d", machines),
		},
	})
	if err != nil {
		return err
	}
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	p, err := controlplane.Open(ctx, controlplane.Options{
		Dir: dir, Config: c, Clock: time.Now, Random: rand.Reader,
		Logger:   zap.New(zapcore.NewCore(encoder, zapcore.Lock(os.Stderr), zapcore.InfoLevel)),
		Provider: func(ctx context.Context, _ string) (providers.Provider, error) { return provider(ctx, dir) },
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	at := p.Addresses()
	err = answer(greeting{Admin: at.Admin, Webhooks: at.Webhooks, Agents: at.Agents})
	stop()
	return errors.Join(err, <-ended)
}

// provider has the machine of the ready instance, whether or not there is one.
func provider(ctx context.Context, dir string) (providers.Provider, error) {
	p := memory.New(time.Now)
	if err := p.Configure(ctx, []byte("{}")); err != nil {
		return nil, err
	}
	rel, err := releaseOf(dir)
	if err != nil {
		return nil, err
	}
	image, err := rel.Image()
	if err != nil {
		return nil, err
	}
	if err := p.EnsureImage(ctx, image, func(int64, int64) {}); err != nil {
		return nil, err
	}
	_, err = p.Create(ctx, providers.CreateRequest{
		Installation: installation, Machine: readyMachine,
		Spec: providers.Spec{Release: image.Release, Region: "local", Size: "standard", DataBytes: 1, Config: []byte("config")},
	})
	return p, err
}
