// Package voucher certifies the endorsement keys that a provider names, for
// machines whose TPM came without a certificate.
//
// Invariants: what is certified is what the provider named for this machine, and
// what the machine showed is held against it and nothing more; a certificate says
// that the provider named the key to this control plane, and not of which
// machine; its key signs nothing else; and it is worth what the control plane's
// word is, which to an owner is little (docs/decisions/0069).
package voucher

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/providers"
)

// Voucher vouches for the machines of one provider.
type Voucher struct {
	// Provider is what the provider is called, Endorser the provider.
	Provider string
	Endorser providers.Endorser
	// Key signs, and Root is its certificate.
	Key  crypto.Signer
	Root *x509.Certificate

	Clock  func() time.Time
	Random io.Reader

	mu sync.Mutex
	// named are keys that were certified, by machine: a machine's key stays, and
	// the provider is asked once. Guarded by mu.
	named map[providers.MachineID]certified
}

type certified struct {
	id          attest.Digest
	certificate []byte
}

// maxNamed bounds what is kept; past it the provider is asked again.
const maxNamed = 8 << 10

// Anchor is what the vouching is worth to the control plane itself, which heard
// the provider say it: as much as the provider.
func (v *Voucher) Anchor() verifier.TrustAnchor {
	return verifier.TrustAnchor{Certificate: v.Root, Tier: attest.TierProviderRooted}
}

// Vouch answers a certificate of the machine's endorsement key, DER, where the
// provider names the one that was shown. The error is attest.ErrIdentity where it
// names another, otherwise the provider's.
func (v *Voucher) Vouch(ctx context.Context, machine providers.MachineID, shown attest.Digest) ([]byte, error) {
	if known := v.known(machine); known.certificate != nil && known.id == shown {
		return known.certificate, nil
	}
	der, err := v.Endorser.EndorsementKey(ctx, machine)
	if err != nil {
		return nil, fmt.Errorf("asking the provider %s for the endorsement key: %w", v.Provider, err)
	}
	named, err := tpm.ParseEKPublic(der)
	if err != nil {
		return nil, fmt.Errorf("the endorsement key that the provider %s names: %w", v.Provider, err)
	}
	if named.ID != shown {
		return nil, fmt.Errorf("%w: the endorsement key is not the one that the provider %s names for this machine", attest.ErrIdentity, v.Provider)
	}
	certificate, err := v.certify(der)
	if err != nil {
		return nil, fmt.Errorf("certifying an endorsement key: %w", err)
	}
	v.keep(machine, certified{named.ID, certificate})
	return certificate, nil
}

func (v *Voucher) known(machine providers.MachineID) certified {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.named[machine]
}

func (v *Voucher) keep(machine providers.MachineID, c certified) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.named == nil || len(v.named) >= maxNamed {
		v.named = map[providers.MachineID]certified{}
	}
	v.named[machine] = c
}

// oidEK is the extended key usage of endorsement certificates (TCG EK Credential
// Profile 2.5, section 3.2.16).
var oidEK = asn1.ObjectIdentifier{2, 23, 133, 8, 1}

// certify makes a certificate as the profile has it, but for what it says of the
// TPM's make, which nobody here knows.
func (v *Voucher) certify(der []byte) ([]byte, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	template, err := newCertificate(v.Random, v.Clock())
	if err != nil {
		return nil, err
	}
	template.Subject = pkix.Name{CommonName: "endorsement key named by " + v.Provider}
	template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{oidEK}
	switch key.(type) {
	case *ecdsa.PublicKey:
		template.KeyUsage = x509.KeyUsageKeyAgreement
	case *rsa.PublicKey:
		template.KeyUsage = x509.KeyUsageKeyEncipherment
	}
	return x509.CreateCertificate(v.Random, template, v.Root, key, v.Key)
}

// forever is the end of what has no end (RFC 5280, section 4.1.2.5): a TPM's key
// lasts as long as its machine.
var forever = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// clocks is how much earlier a verifier's clock may be than this one.
const clocks = time.Hour

func newCertificate(random io.Reader, now time.Time) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, fmt.Errorf("drawing a serial number: %w", err)
	}
	// It is positive and has at most 20 octets (RFC 5280, section 4.1.2.2).
	serial[0] = serial[0]&0x3f | 0x40
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), NotBefore: now.Add(-clocks), NotAfter: forever, BasicConstraintsValid: true,
	}, nil
}

// NewRoot makes the certificate of a voucher's key, DER: it says whose word is
// passed on, and by whom.
func NewRoot(random io.Reader, key crypto.Signer, provider string, now time.Time) ([]byte, error) {
	template, err := newCertificate(random, now)
	if err != nil {
		return nil, err
	}
	template.Subject = pkix.Name{CommonName: "the control plane, of keys that its provider " + provider + " names"}
	template.IsCA, template.MaxPathLenZero = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(random, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate of a voucher: %w", err)
	}
	return der, nil
}
