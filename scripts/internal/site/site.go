// Package site makes the directory of a control plane that benchmarks run.
//
// Invariants: nothing in it opens anything anywhere else: its keys are drawn
// anew and its release is signed by nobody; and what is in it is what the store
// and the control plane themselves write.
package site

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

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

const (
	keyFile  = "release.pub"
	rootFile = "ek-root.pem"
	diskFile = "disk.raw"
	diskText = "no machine reads this disk"
	// seedBatch is how many signups are seeded in one transaction.
	seedBatch = 500
)

// Installation is the id at the provider of every control plane that is made
// here.
const Installation = "baaaaaaaaaaaaaaaaaaaaaaaaa"

// Release is one of which only the disk is ever read. Errors are the manifest's.
func Release(dir string) (orchestrator.Release, error) {
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

// Make writes the directory: a release, instances that wait, and whatever else
// insert puts there, which may be nil. Errors are those of files and the store.
func Make(ctx context.Context, dir string, waiting int, insert func(store.Tx) error) (err error) {
	if err := writeFiles(dir); err != nil {
		return err
	}
	rel, err := Release(dir)
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
		if insert != nil {
			if err := insert(tx); err != nil {
				return err
			}
		}
		return errors.Join(tx.PutRelease(rel), tx.PutMeta("installation", Installation))
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

// Config is how a control plane runs on the directory, with further flags.
// Errors are config.ErrConfig.
func Config(dir string, flags ...string) (config.Config, error) {
	c, _, err := config.Load(config.Sources{
		Env: func(string) (string, bool) { return "", false },
		Flags: append([]string{
			"listen.admin=127.0.0.1:0", "listen.webhooks=127.0.0.1:0", "listen.agents=127.0.0.1:0",
			"provider.name=memory", "release.key_file=" + filepath.Join(dir, keyFile),
			`policy.ek_roots=[{"file":"` + filepath.Join(dir, rootFile) + `","tier":"software"}]`,
		}, flags...),
	})
	return c, err
}
