package voucher

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"strconv"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

// A voucher's key signs certificates of keys and nothing else, no further one
// that signs either; what is certified is used as keys of its kind are (TCG EK
// Credential Profile 2.5, section 3.2.14).
func TestWhatCertificatesAreFor(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	der, err := NewRoot(rand.Reader, key, "cumulus", now)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if root.KeyUsage != x509.KeyUsageCertSign || !root.IsCA || !root.MaxPathLenZero || root.MaxPathLen != 0 {
		t.Errorf("root: usage %b, path of %d", root.KeyUsage, root.MaxPathLen)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	v := Voucher{Provider: "cumulus", Key: key, Root: root, Random: rand.Reader, Clock: func() time.Time { return now }}
	for _, c := range []struct {
		key   crypto.PublicKey
		usage x509.KeyUsage
	}{{key.Public(), x509.KeyUsageKeyAgreement}, {small.Public(), x509.KeyUsageKeyEncipherment}} {
		der, err := x509.MarshalPKIXPublicKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if der, err = v.certify(der); err != nil {
			t.Fatal(err)
		}
		got, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if got.KeyUsage != c.usage || got.IsCA || len(got.UnknownExtKeyUsage) != 1 || !got.UnknownExtKeyUsage[0].Equal(oidEK) {
			t.Errorf("%T: usage %b, %v", c.key, got.KeyUsage, got.UnknownExtKeyUsage)
		}
	}
}

// A serial number is positive, whatever is drawn, and its length says nothing.
func TestSerialNumbers(t *testing.T) {
	for _, drawn := range []byte{0, 0xff} {
		c, err := newCertificate(bytes.NewReader(bytes.Repeat([]byte{drawn}, 16)), time.Time{})
		if err != nil || c.SerialNumber.BitLen() != 127 {
			t.Errorf("drawn %#x: %x, %v", drawn, c.SerialNumber, err)
		}
	}
}

// What is kept of machines that were has a bound.
func TestKeptKeysAreBounded(t *testing.T) {
	var v Voucher
	for n := range 2*maxNamed + 1 {
		id := providers.MachineID(strconv.Itoa(n))
		v.keep(id, certified{attest.Digest{1}, []byte{1}})
		if v.known(id).certificate == nil || len(v.named) > maxNamed {
			t.Fatalf("machine %d: %d are kept", n, len(v.named))
		}
	}
}
