package verifiertest

import (
	"crypto/x509"
	"testing"

	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
)

// Maker stands in for a maker of TPMs, with an authority between its root and
// the keys. Synthetic.
type Maker struct {
	Root, Intermediate *chaintest.Authority
	// Leaf is the certificate that Certify made last.
	Leaf *x509.Certificate
}

// NewMaker draws a maker.
func NewMaker(t testing.TB) *Maker {
	root := chaintest.Root(t, "TPM maker", chaintest.P256(t), nil)
	return &Maker{Root: root, Intermediate: root.Authority("TPM maker's factory", chaintest.P256(t), nil)}
}

// Certify has the machine show a certificate of this maker's for its
// endorsement key, and both authorities' lists. edit changes the certificate
// and may be nil.
func (k *Maker) Certify(t testing.TB, m *Machine, edit func(*x509.Certificate)) {
	t.Helper()
	own, err := x509.ParseCertificate(m.TPM.EKCertificate())
	if err != nil {
		t.Fatal(err)
	}
	k.Leaf = k.Intermediate.Leaf("ek", own.PublicKey, func(c *x509.Certificate) {
		c.KeyUsage, c.ExtKeyUsage, c.UnknownExtKeyUsage = own.KeyUsage, own.ExtKeyUsage, own.UnknownExtKeyUsage
		if edit != nil {
			edit(c)
		}
	})
	m.Endorsements.EKCertificate = k.Leaf.Raw
	m.Endorsements.EKIntermediates = [][]byte{k.Intermediate.Certificate.Raw}
	m.Endorsements.RevocationLists = [][]byte{k.Root.List(nil), k.Intermediate.List(nil)}
}
