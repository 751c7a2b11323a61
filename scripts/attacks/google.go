package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// onGoogle are the attacks on a machine whose attestation key a cloud
// certifies.
func onGoogle(tb testing.TB) ([]attack, error) {
	m, another := verifiertest.Boot(tb), verifiertest.Boot(tb)
	g := verifiertest.NewGoogle(tb)
	g.Install(tb, m, nil)
	g.Install(tb, another, nil)
	t := &target{tb: tb, machine: m, another: another, policy: func() verifier.Policy {
		p := m.PolicyAt(attest.TierProviderRooted)
		g.Accept(&p)
		m.PinSecureBoot()
		return p
	}}
	return append(t.bound(), t.certified(g)...), nil
}

// certified are the attacks on the certificate of the attestation key.
func (t *target) certified(g *verifiertest.Google) []attack {
	var all []attack
	shown := func(name string, r reason, change func(*verifiertest.Machine)) {
		change(t.machine)
		bad := judged(t.input(t.machine).Appraise(t.policy()))
		g.Install(t.tb, t.machine, nil)
		all = append(all, t.refused(name, r, bad))
	}
	edited := func(name string, r reason, edit func(*x509.Certificate)) {
		shown(name, r, func(m *verifiertest.Machine) { g.Install(t.tb, m, edit) })
	}
	shown("certificate of another key", reason{kind: attest.ErrBinding, says: "ak_certificate"}, func(m *verifiertest.Machine) {
		g.Certify(m, verifiertest.AKOf(t.tb, t.another), nil)
	})
	edited("certificate that is over", onIdentity("expired"), func(c *x509.Certificate) { c.NotAfter = chaintest.Now.Add(-time.Minute) })
	edited("certificate that is not valid yet", onIdentity("not yet valid"), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	edited("certificate of a key that decrypts", onIdentity("signs"), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	edited("certificate of an authority", onIdentity("signs"), func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })
	edited("certificate with a malformed instance", reason{kind: attest.ErrMalformed, says: "zone"}, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: google.OID, Value: instanceWithoutZone}}
	})
	shown("revoked certificate", reason{kind: attest.ErrRevoked}, func(m *verifiertest.Machine) {
		leaf, err := x509.ParseCertificate(m.Endorsements.AKCertificate)
		if err != nil {
			t.tb.Fatal(err)
		}
		m.Endorsements.RevocationLists = append(m.Endorsements.RevocationLists, g.Intermediate.List(nil, leaf))
	})
	shown("revoked authority", reason{kind: attest.ErrRevoked}, func(m *verifiertest.Machine) {
		m.Endorsements.RevocationLists = [][]byte{g.Root.List(nil, g.Intermediate.Certificate)}
	})
	shown("revocation list left out", reason{kind: attest.ErrCollateral}, func(m *verifiertest.Machine) { m.Endorsements.RevocationLists = nil })
	shown("no certificate", onIdentity("endorsement key"), func(m *verifiertest.Machine) { m.Endorsements.AKCertificate = nil })
	shown("no certificate between it and the root", unknownAuthority, func(m *verifiertest.Machine) { m.Endorsements.AKIntermediates = nil })
	return append(all,
		t.under("root that vouches for endorsement keys alone", onIdentity("attestation key"), func(p *verifier.Policy) {
			p.TrustAnchors, p.AKAnchors = p.AKAnchors, nil
		}),
		t.under("another cloud's root", unknownAuthority, func(p *verifier.Policy) {
			p.AKAnchors[0].Certificate = verifiertest.NewGoogle(t.tb).Root.Certificate
		}),
		t.under("Google's own root, and a root that a test drew", unknownAuthority, func(p *verifier.Policy) { p.AKAnchors[0].Certificate = google.Roots()[0] }),
		t.under("tier below the minimum", onIdentity("tier"), func(p *verifier.Policy) { p.Minimum.Identity = attest.TierHardware }),
		t.under("cloud's word for the memory", reason{kind: attest.ErrPlatform, says: "tier"}, func(p *verifier.Policy) { p.Minimum.Memory = attest.TierHardware }),
		t.under("policy that leaves revocation unsaid", reason{kind: attest.ErrPolicy, says: "revocation"}, func(p *verifier.Policy) { p.AKRevocation = 0 }),
	)
}

// instanceWithoutZone is Google's extension, in DER: zone "", project 5
// "project", instance 6 "machine".
var instanceWithoutZone = []byte("\x30\x1a\x0c\x00\x02\x01\x05\x0c\x07project\x02\x01\x06\x0c\x07machine")
