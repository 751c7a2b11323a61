package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/enrol"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/orchestrator/voucher"
	"github.com/toolshed-cloud/shed/providers"
)

// voucherKeyFile holds the key that certifies endorsement keys which providers
// name. EKRootFile is its certificate for one of them, for owners.
const voucherKeyFile = "ek-voucher.key"

// EKRootFile is where the certificate is that vouches for the endorsement keys of
// a provider's machines.
func EKRootFile(provider string) string { return "ek-named-by-" + provider + ".pem" }

// voucherKeyKey is the meta key of the SHA-256 of that key.
const voucherKeyKey = "ek_voucher_key"

// openVouchers readies vouching for the machines of each provider that names
// endorsement keys.
func (p *ControlPlane) openVouchers(ctx context.Context) error {
	p.vouchers = map[string]*voucher.Voucher{}
	var key *ecdsa.PrivateKey
	for _, name := range slices.Sorted(maps.Keys(p.providers)) {
		endorser, ok := p.providers[name].Provider.(providers.Endorser)
		if !ok || !p.providers[name].has(providers.CapabilityEndorse) {
			continue
		}
		if key == nil {
			var err error
			if key, err = p.voucherKey(ctx); err != nil {
				return err
			}
		}
		root, err := p.voucherRoot(key, name)
		if err != nil {
			return err
		}
		p.vouchers[name] = &voucher.Voucher{
			Provider: name, Endorser: endorser, Key: key, Root: root, Clock: p.Clock, Random: p.Random,
		}
	}
	return nil
}

// voucher is that of a provider's machines; nil where it names no keys.
func (p *ControlPlane) voucher(provider string) enrol.Voucher {
	if provider == "" {
		provider = p.Config.ProviderName
	}
	if v, ok := p.vouchers[provider]; ok {
		return v
	}
	return nil
}

// voucherKey reads the key, drawing it where there was never one: owners were
// told which one vouches.
func (p *ControlPlane) voucherKey(ctx context.Context) (*ecdsa.PrivateKey, error) {
	path, known := filepath.Join(p.Dir, voucherKeyFile), ""
	err := p.store.View(ctx, func(v store.Reader) (err error) {
		known, err = v.Meta(voucherKeyKey)
		return err
	})
	if err != nil && !errors.Is(err, orchestrator.ErrNotFound) {
		return nil, err
	}
	if known != "" && !exists(path) {
		return nil, &LostError{Dir: p.Dir, File: voucherKeyFile, Beside: []string{sqlite.DatabaseFile}}
	}
	key, err := enrol.LoadKey(path, "the key that vouches for endorsement keys", p.Random)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the key that vouches for endorsement keys: %w", err)
	}
	switch id := attest.Sum(spki).String(); known {
	case id:
		return key, nil
	case "":
		return key, p.store.Update(ctx, func(tx store.Tx) error { return tx.PutMeta(voucherKeyKey, id) })
	}
	return nil, fmt.Errorf("%s holds another key than the one that vouched for machines", path)
}

// voucherRoot reads the certificate for a provider's name, making it where it is
// missing or another key's: that of the same key and name verifies the same.
func (p *ControlPlane) voucherRoot(key *ecdsa.PrivateKey, provider string) (*x509.Certificate, error) {
	path := filepath.Join(p.Dir, EKRootFile(provider))
	if text, err := os.ReadFile(path); err == nil {
		if block, _ := pem.Decode(text); block != nil {
			root, err := x509.ParseCertificate(block.Bytes)
			if err == nil && key.PublicKey.Equal(root.PublicKey) {
				return root, nil
			}
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the certificate of a voucher: %w", err)
	}
	der, err := voucher.NewRoot(p.Random, key, provider, p.Clock())
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of a voucher: %w", err)
	}
	return root, statefile.Write(path, 0o600, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
