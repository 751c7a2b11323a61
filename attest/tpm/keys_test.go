package tpm_test

import (
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
	for name, c := range map[string]struct {
		usage []asn1.ObjectIdentifier
		want  error
	}{
		"endorsement key":             {[]asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}, nil},
		"attestation key":             {[]asn1.ObjectIdentifier{{2, 23, 133, 8, 3}}, attest.ErrIdentity},
		"no usage":                    {nil, attest.ErrIdentity},
		"one usage more than its own": {[]asn1.ObjectIdentifier{{2, 23, 133, 8, 3}, {2, 23, 133, 8, 1}}, nil},
	} {
		leaf := valid
		leaf.UnknownExtKeyUsage = c.usage
		der, err := x509.CreateCertificate(rand.Reader, &leaf, root, key.Public(), authority)
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
