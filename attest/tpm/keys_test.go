package tpm_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// A certificate of an accepted authority is one for an endorsement key only
// where it says so: the same authority may certify other keys.
func TestCertificateIsForAnEndorsementKey(t *testing.T) {
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	valid := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	ca := valid
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, &ca, &ca, authority.Public(), authority)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ekUsage, akUsage := asn1.ObjectIdentifier{2, 23, 133, 8, 1}, asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	type usages struct {
		key      crypto.Signer
		keyUsage x509.KeyUsage
		own      []asn1.ObjectIdentifier
		known    []x509.ExtKeyUsage
		isCA     bool
		want     error
	}
	for name, c := range map[string]usages{
		"endorsement key":             {key: key, own: []asn1.ObjectIdentifier{ekUsage}},
		"attestation key":             {key: key, own: []asn1.ObjectIdentifier{akUsage}, want: attest.ErrIdentity},
		"one usage more than its own": {key: key, own: []asn1.ObjectIdentifier{akUsage, ekUsage}},
		"no usage of either kind":     {key: key, want: attest.ErrIdentity},
		// As Google's have it.
		"RSA, to wrap keys":               {key: key, keyUsage: x509.KeyUsageKeyEncipherment},
		"P-256, to agree on keys":         {key: curve, keyUsage: x509.KeyUsageKeyAgreement},
		"RSA, to sign":                    {key: key, keyUsage: x509.KeyUsageDigitalSignature, want: attest.ErrIdentity},
		"P-256, to sign":                  {key: curve, keyUsage: x509.KeyUsageDigitalSignature, want: attest.ErrIdentity},
		"RSA, to wrap keys and sign":      {key: key, keyUsage: x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature, want: attest.ErrIdentity},
		"RSA, to agree on keys":           {key: key, keyUsage: x509.KeyUsageKeyAgreement, want: attest.ErrIdentity},
		"P-256, to wrap keys":             {key: curve, keyUsage: x509.KeyUsageKeyEncipherment, want: attest.ErrIdentity},
		"RSA, to wrap keys, a server's":   {key: key, keyUsage: x509.KeyUsageKeyEncipherment, known: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, want: attest.ErrIdentity},
		"RSA, to wrap keys, attestation":  {key: key, keyUsage: x509.KeyUsageKeyEncipherment, own: []asn1.ObjectIdentifier{akUsage}, want: attest.ErrIdentity},
		"RSA, to wrap keys, an authority": {key: key, keyUsage: x509.KeyUsageKeyEncipherment, isCA: true, want: attest.ErrIdentity},
	} {
		leaf := valid
		leaf.KeyUsage, leaf.UnknownExtKeyUsage, leaf.ExtKeyUsage = c.keyUsage, c.own, c.known
		leaf.IsCA, leaf.BasicConstraintsValid = c.isCA, true
		der, err := x509.CreateCertificate(rand.Reader, &leaf, root, c.key.Public(), authority)
		if err != nil {
			t.Fatal(err)
		}
		ek, err := tpm.ParseEK(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ek.Path(nil, root, time.Now()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// An authority that is for other certificates makes no endorsement key of one that
// does not say what it is for: its keys are of servers, or of whatever it names.
func TestAuthoritiesForOtherCertificates(t *testing.T) {
	ek, ak := asn1.ObjectIdentifier{2, 23, 133, 8, 1}, asn1.ObjectIdentifier{2, 23, 133, 8, 3}
	root := chaintest.Root(t, "maker", chaintest.P256(t), nil)
	for name, c := range map[string]struct {
		own   []asn1.ObjectIdentifier
		known []x509.ExtKeyUsage
		want  error
	}{
		"any certificates":             {},
		"any usage":                    {known: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}},
		"endorsement keys":             {own: []asn1.ObjectIdentifier{ek}},
		"attestation keys":             {own: []asn1.ObjectIdentifier{ak}, want: attest.ErrIdentity},
		"both kinds":                   {own: []asn1.ObjectIdentifier{ak, ek}},
		"servers":                      {known: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, want: attest.ErrIdentity},
		"servers and endorsement keys": {own: []asn1.ObjectIdentifier{ek}, known: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
	} {
		ca := root.Authority("intermediate", chaintest.P256(t), func(a *x509.Certificate) { a.UnknownExtKeyUsage, a.ExtKeyUsage = c.own, c.known })
		path := func(usage ...asn1.ObjectIdentifier) error {
			leaf := ca.Leaf("key", chaintest.P256(t).Public(), func(l *x509.Certificate) {
				l.KeyUsage, l.UnknownExtKeyUsage = x509.KeyUsageKeyAgreement, usage
			})
			parsed, err := tpm.ParseEK(leaf.Raw)
			if err != nil {
				t.Fatal(err)
			}
			_, err = parsed.Path([]*x509.Certificate{ca.Certificate}, root.Certificate, chaintest.Now)
			return err
		}
		if err := path(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		// What says itself what it is for is its maker's word as before.
		if err := path(ek); err != nil {
			t.Errorf("%s, and an endorsement key that says so: %v", name, err)
		}
	}
}
