package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

// LostError says that a part of the state is missing beside other parts. What
// would be made in its place knows nothing of the machines that are there.
type LostError struct {
	Dir string
	// File is what is missing, Beside what is there.
	File   string
	Beside []string
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s is missing in %s, where there is %s", e.File, e.Dir, strings.Join(e.Beside, ", "))
}

// checkState refuses a directory that was used before and has no database.
func (p *ControlPlane) checkState(context.Context) error {
	if exists(filepath.Join(p.Dir, sqlite.DatabaseFile)) {
		return nil
	}
	var beside []string
	for _, name := range []string{agentKeyFile, resultKeyFile, voucherKeyFile, logKeyFile, TokenFile, SecretFile, AddressesFile, sqlite.DatabaseFile + "-wal", sqlite.CommitsFile} {
		if exists(filepath.Join(p.Dir, name)) {
			beside = append(beside, name)
		}
	}
	if len(beside) > 0 {
		return &LostError{Dir: p.Dir, File: sqlite.DatabaseFile, Beside: beside}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// agentKeyKey is the meta key of the SHA-256 of the key that machines know this
// control plane by.
const agentKeyKey = "agent_key"

// agentCertificate reads the key that machines expect, and draws one only
// where there was never one: no machine that is there would speak to another.
func (p *ControlPlane) agentCertificate(ctx context.Context) (tls.Certificate, attest.Digest, error) {
	path := filepath.Join(p.Dir, agentKeyFile)
	var known string
	err := p.store.View(ctx, func(v store.Reader) (err error) {
		known, err = v.Meta(agentKeyKey)
		return err
	})
	fresh := errors.Is(err, orchestrator.ErrNotFound)
	switch {
	case err != nil && !fresh:
		return tls.Certificate{}, attest.Digest{}, err
	case !exists(path) && !fresh:
		return tls.Certificate{}, attest.Digest{}, &LostError{Dir: p.Dir, File: agentKeyFile, Beside: []string{sqlite.DatabaseFile}}
	case !exists(path):
		// A database from before the key was noted may have machines.
		if used, err := p.hasInstallation(ctx); err != nil || used {
			return tls.Certificate{}, attest.Digest{}, errors.Join(err, &LostError{Dir: p.Dir, File: agentKeyFile, Beside: []string{sqlite.DatabaseFile}})
		}
	}
	certificate, spki, err := enrol.LoadCertificate(path, p.Random)
	switch {
	case err != nil:
		return tls.Certificate{}, attest.Digest{}, err
	case fresh:
		err = p.store.Update(ctx, func(tx store.Tx) error { return tx.PutMeta(agentKeyKey, spki.String()) })
	case known != spki.String():
		err = fmt.Errorf("%s holds another key than the one that machines expect", path)
	}
	return certificate, spki, err
}

func (p *ControlPlane) hasInstallation(ctx context.Context) (bool, error) {
	err := p.store.View(ctx, func(v store.Reader) error {
		_, err := v.Meta(installationKey)
		return err
	})
	if errors.Is(err, orchestrator.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// secretKey is the meta key that says that a webhook secret was drawn.
const secretKey = "webhook_secret"

// drawSecret draws a webhook secret where there was never one: the senders of
// webhooks know the one that there was.
func (p *ControlPlane) drawSecret(ctx context.Context, path string) error {
	// The file comes before the mark: a stop between them leaves no mark for a
	// secret that never was.
	_, err := p.meta(ctx, secretKey, func() (string, error) {
		if exists(path) {
			return "drawn", nil
		}
		secret, err := signup.NewSecret(p.Random)
		if err != nil {
			return "", err
		}
		return "drawn", statefile.Write(path, 0o600, []byte(secret+"\n"))
	})
	if err == nil && !exists(path) {
		return &LostError{Dir: p.Dir, File: SecretFile, Beside: []string{sqlite.DatabaseFile}}
	}
	return err
}

// ExposedError says that others on this host can read a secret.
type ExposedError struct {
	Path string
	Mode os.FileMode
}

func (e *ExposedError) Error() string {
	return fmt.Sprintf("%s can be read by others: its mode is %#o, want 0600", e.Path, e.Mode)
}

// checkSecrets refuses a state whose secrets others can read.
func (p *ControlPlane) checkSecrets(context.Context) error {
	for _, name := range []string{agentKeyFile, resultKeyFile, voucherKeyFile, logKeyFile, TokenFile, SecretFile} {
		if err := checkSecret(filepath.Join(p.Dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func checkSecret(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return &ExposedError{Path: path, Mode: mode}
	}
	return nil
}

// checkTrustAnchors reads the accepted roots once, so that a wrong name shows
// at the start and not at the first machine. The provider is configured by
// then: it may have made its own.
func (p *ControlPlane) checkTrustAnchors(context.Context) error {
	const key = "policy.ek_roots"
	if len(p.Config.TrustAnchors) == 0 && len(p.vouchers) == 0 {
		return p.Config.Errorf(key, errors.New("is empty: no machine could prove itself"))
	}
	if _, err := readTrustAnchors(p.Config.TrustAnchors); err != nil {
		return p.Config.Errorf(key, err)
	}
	return nil
}
