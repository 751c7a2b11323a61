package verifiertest

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Google stands in for a cloud that certifies its TPMs' attestation keys.
// Synthetic.
type Google struct {
	Root, Intermediate *chaintest.Authority
}

// NewGoogle draws the authorities. As Google's, the root publishes a list and
// the one below it does not.
func NewGoogle(t testing.TB) *Google {
	root := chaintest.Root(t, "EK/AK CA Root", chaintest.P256(t), nil)
	return &Google{root, root.Authority("EK/AK CA Intermediate", chaintest.P256(t), func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"http://cloud.example/root.crl"}
	})}
}

// Install has the machine show a certificate of its attestation key, edited
// before it is signed; edit may be nil.
func (g *Google) Install(t testing.TB, m *Machine, edit func(*x509.Certificate)) {
	t.Helper()
	g.Certify(m, AKOf(t, m), edit)
}

// Certify has the machine show a certificate of any key.
func (g *Google) Certify(m *Machine, key crypto.PublicKey, edit func(*x509.Certificate)) {
	leaf := g.Intermediate.Leaf("", key, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: google.OID, Value: instance()}}
		if edit != nil {
			edit(c)
		}
	})
	m.Endorsements.AKCertificate = leaf.Raw
	m.Endorsements.AKIntermediates = [][]byte{g.Intermediate.Certificate.Raw}
	m.Endorsements.RevocationLists = [][]byte{g.Root.List(nil)}
}

// instance is which machine a certificate is of.
func instance() []byte {
	der, err := asn1.Marshal(struct {
		Zone    string `asn1:"utf8"`
		Number  int64
		Project string `asn1:"utf8"`
		ID      int64
		Name    string `asn1:"utf8"`
	}{"zone-a", 5, "project", 6, "machine"})
	if err != nil {
		// It is a constant.
		panic(err)
	}
	return der
}

// AKOf is the machine's attestation key.
func AKOf(t testing.TB, m *Machine) crypto.PublicKey {
	t.Helper()
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](m.TPM.AKPublic())
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*public)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Accept has a policy accept this cloud's word for attestation keys, and
// nobody's for endorsement keys.
func (g *Google) Accept(p *verifier.Policy) {
	p.TrustAnchors = nil
	p.AKAnchors = []verifier.TrustAnchor{{Certificate: g.Root.Certificate, Tier: attest.TierProviderRooted}}
	p.AKRevocation = chain.RequiredWhereNamed
}
