package tpm_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// An attestation key's certificate is one for a key that signs and certifies
// nothing, of that very key.
func TestAKCertificate(t *testing.T) {
	root := chaintest.Root(t, "root", chaintest.P256(t), nil)
	key, other := chaintest.P256(t), chaintest.P256(t)
	x, y := key.X.FillBytes(make([]byte, 32)), key.Y.FillBytes(make([]byte, 32)) //nolint:staticcheck // a point as the TPM writes it
	public := tpm.AKTemplate()
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})
	ak, err := tpm.ParseAK(tpm2.Marshal(public))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(*x509.Certificate)
		want error
	}{
		"signs":               {nil, nil},
		"an endorsement's":    {func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}} }, nil},
		"decrypts":            {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, attest.ErrIdentity},
		"agrees on keys":      {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }, attest.ErrIdentity},
		"signs certificates":  {func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, attest.ErrIdentity},
		"is an authority":     {func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, attest.ErrIdentity},
		"says nothing of use": {func(c *x509.Certificate) { c.KeyUsage = 0 }, attest.ErrIdentity},
	} {
		read, err := tpm.ParseAKCertificate(root.Leaf("", key.Public(), c.edit).Raw)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err != nil {
			continue
		}
		if err := read.Of(ak); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := read.Path(nil, root.Certificate, chaintest.Now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign, err := tpm.ParseAKCertificate(root.Leaf("", other.Public(), nil).Raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := foreign.Of(ak); !errors.Is(err, attest.ErrBinding) {
		t.Errorf("another key: %v", err)
	}
	if _, err := tpm.ParseAKCertificate([]byte{0x30, 0}); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("no certificate: %v", err)
	}
}

// A key that no certificate names is the same key, and leads to no authority.
func TestEKWithoutCertificate(t *testing.T) {
	root := chaintest.Root(t, "root", chaintest.P256(t), nil)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	named, err := tpm.EKWithoutCertificate(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	certified, err := tpm.ParseEK(root.Leaf("", &key.PublicKey, nil).Raw)
	if err != nil || certified.ID != named.ID {
		t.Errorf("%v: %s, want %s", err, named.ID, certified.ID)
	}
	if _, err := named.Path(nil, root.Certificate, chaintest.Now); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("a path: %v", err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.EKWithoutCertificate(&small.PublicKey); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("a key of 1024 bits: %v", err)
	}
	three := rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 3}
	if _, err := tpm.EKWithoutCertificate(&three); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("a key with exponent 3: %v", err)
	}
}
