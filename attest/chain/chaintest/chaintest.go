// Package chaintest draws certificate authorities for tests.
//
// Invariants: nothing that ships imports it, and each authority's key lives in
// the test that drew it alone.
package chaintest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/chain"
)

// Now is the time that everything drawn here is valid at, an hour and more
// around it: when the tests began, so that certificates of a software TPM, which
// are made meanwhile, are valid beside them.
var Now = time.Now().UTC().Truncate(time.Second)

var serials atomic.Int64

// Authority is a test's certificate and its key.
type Authority struct {
	tb          testing.TB
	Certificate *x509.Certificate
	Key         crypto.Signer
	// PSS has an RSA key sign as AMD's do: RSA-PSS with SHA-384.
	PSS bool
}

// Root draws a self-signed authority with key. edit may be nil.
func Root(tb testing.TB, name string, key crypto.Signer, edit func(*x509.Certificate)) *Authority {
	_, isRSA := key.(*rsa.PrivateKey)
	a := &Authority{tb: tb, Key: key, PSS: isRSA}
	a.Certificate = a.sign(authority(name), nil, key.Public(), edit)
	return a
}

// Authority draws an authority below a. edit may be nil.
func (a *Authority) Authority(name string, key crypto.Signer, edit func(*x509.Certificate)) *Authority {
	_, isRSA := key.(*rsa.PrivateKey)
	return &Authority{
		tb: a.tb, Key: key, PSS: isRSA, Certificate: a.sign(authority(name), a.Certificate, key.Public(), edit),
	}
}

// Leaf issues a certificate for a key. edit may be nil.
func (a *Authority) Leaf(name string, key crypto.PublicKey, edit func(*x509.Certificate)) *x509.Certificate {
	return a.sign(template(name), a.Certificate, key, edit)
}

// List issues a revocation list that names the given certificates, in DER.
// edit may be nil.
func (a *Authority) List(edit func(*x509.RevocationList), revoked ...*x509.Certificate) []byte {
	a.tb.Helper()
	t := &x509.RevocationList{
		Number: big.NewInt(serials.Add(1)), SignatureAlgorithm: a.algorithm(),
		ThisUpdate: Now.Add(-time.Hour), NextUpdate: Now.Add(time.Hour),
	}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: Now})
	}
	if edit != nil {
		edit(t)
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, a.Certificate, a.Key)
	if err != nil {
		a.tb.Fatal(err)
	}
	return der
}

// Parsed is List, parsed.
func (a *Authority) Parsed(edit func(*x509.RevocationList), revoked ...*x509.Certificate) *chain.List {
	a.tb.Helper()
	l, err := chain.ParseList("list", a.List(edit, revoked...))
	if err != nil {
		a.tb.Fatal(err)
	}
	return l
}

// P256 and P384 draw keys.
func P256(tb testing.TB) *ecdsa.PrivateKey { return key(tb, elliptic.P256()) }

// P384 draws a key.
func P384(tb testing.TB) *ecdsa.PrivateKey { return key(tb, elliptic.P384()) }

func key(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: Now.Add(-2 * time.Hour), NotAfter: Now.Add(2 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func authority(name string) *x509.Certificate {
	t := template(name)
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return t
}

func (a *Authority) algorithm() x509.SignatureAlgorithm {
	if a.PSS {
		return x509.SHA384WithRSAPSS
	}
	return x509.UnknownSignatureAlgorithm
}

func (a *Authority) sign(t, parent *x509.Certificate, key crypto.PublicKey, edit func(*x509.Certificate)) *x509.Certificate {
	a.tb.Helper()
	t.SignatureAlgorithm = a.algorithm()
	if edit != nil {
		edit(t)
	}
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key, a.Key)
	if err != nil {
		a.tb.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.tb.Fatal(err)
	}
	return c
}
