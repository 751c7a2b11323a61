package verifier_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/google"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// onGoogle is a machine whose attestation key a stand-in for a cloud certifies,
// with the policy that accepts it.
func onGoogle(t testing.TB) (*verifiertest.Machine, *verifiertest.Google, func() verifier.Policy) {
	t.Helper()
	m, g := verifiertest.Boot(t), verifiertest.NewGoogle(t)
	g.Install(t, m, nil)
	m.PinSecureBoot()
	return m, g, accepting(m, g.Accept)
}

// A certificate of the attestation key makes the identity as good as the cloud
// with nobody to activate a key for, and the memory as good as the report that
// joins it.
func TestCertificateVouchesForTheKey(t *testing.T) {
	m, _, policy := onGoogle(t)
	in := m.Input(t)
	for _, how := range []verifier.Activation{verifier.NotActivated, verifier.ActivatedHere, verifier.ActivatedBySaver} {
		r, f := appraisedAs(t, in, policy(), how)
		if want := (attest.Tiers{Identity: attest.TierProviderRooted}); !r.Accepted() || r.Tiers != want || f.Verdict != attest.Affirming {
			t.Errorf("activation %d: accepted %v, tiers %+v, want %+v: %+v", how, r.Accepted(), r.Tiers, want, f)
		}
		if !strings.Contains(f.Reason, "instance machine (6) of project project (5) in zone-a") {
			t.Error(f.Reason)
		}
	}
	w := verifiertest.NewSNP(t, "Genoa")
	lists := m.Endorsements.RevocationLists
	w.Install(m, nil)
	m.Endorsements.RevocationLists = append(m.Endorsements.RevocationLists, lists...)
	p := policy()
	p.SNP = w.Policy()
	r, f := appraisedAs(t, m.Input(t), p, verifier.NotActivated)
	if want := (attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierProviderRooted}); !r.Accepted() || r.Tiers != want {
		t.Errorf("with a report: accepted %v, tiers %+v, want %+v: %+v", r.Accepted(), r.Tiers, want, f)
	}
}

func TestCertificateOfTheKeyIsRefused(t *testing.T) {
	m, g, policy := onGoogle(t)
	stranger := chaintest.P256(t).Public()
	for name, c := range map[string]struct {
		edit   func(*x509.Certificate)
		change func()
		policy func(*verifier.Policy)
		want   error
		says   string
	}{
		"the twin":               {},
		"no instance":            {edit: func(c *x509.Certificate) { c.ExtraExtensions = nil }},
		"another key":            {change: func() { g.Certify(m, stranger, nil) }, want: attest.ErrBinding, says: "ak_certificate"},
		"of a key that decrypts": {edit: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, want: attest.ErrIdentity, says: "signs"},
		"expired":                {edit: func(c *x509.Certificate) { c.NotAfter = chaintest.Now.Add(-time.Minute) }, want: attest.ErrIdentity, says: "expired"},
		"revoked authority": {change: func() {
			m.Endorsements.RevocationLists = [][]byte{g.Root.List(nil, g.Intermediate.Certificate)}
		}, want: attest.ErrRevoked},
		"no list": {change: func() { m.Endorsements.RevocationLists = nil }, want: attest.ErrCollateral, says: "no revocation list"},
		"stale list": {change: func() {
			m.Endorsements.RevocationLists = [][]byte{g.Root.List(func(l *x509.RevocationList) { l.NextUpdate = chaintest.Now.Add(-time.Minute) })}
		}, want: attest.ErrCollateral},
		"no intermediate": {change: func() { m.Endorsements.AKIntermediates = nil }, want: attest.ErrIdentity},
		"no certificate":  {change: func() { m.Endorsements.AKCertificate = nil }, want: attest.ErrIdentity, says: "endorsement key"},
		"wrong instance": {edit: func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: google.OID, Value: []byte{0x30, 0}}}
		}, want: attest.ErrMalformed, says: "instance info"},
		"root of endorsement keys": {policy: func(p *verifier.Policy) {
			p.TrustAnchors, p.AKAnchors = p.AKAnchors, nil
		}, want: attest.ErrIdentity, says: "the policy accepts none"},
		"another root": {policy: func(p *verifier.Policy) {
			p.AKAnchors[0].Certificate = verifiertest.NewGoogle(t).Root.Certificate
		}, want: attest.ErrIdentity},
		"google's own root":   {policy: func(p *verifier.Policy) { p.AKAnchors[0].Certificate = google.Roots()[0] }, want: attest.ErrIdentity},
		"tier below":          {policy: func(p *verifier.Policy) { p.AKAnchors[0].Tier = attest.TierSoftware }, want: attest.ErrIdentity, says: "tier"},
		"revocation unsaid":   {policy: func(p *verifier.Policy) { p.AKRevocation = 0 }, want: attest.ErrPolicy, says: "attestation keys"},
		"root without a tier": {policy: func(p *verifier.Policy) { p.AKAnchors[0].Tier = attest.TierNone }, want: attest.ErrPolicy, says: "tier"},
		"no root":             {policy: func(p *verifier.Policy) { p.AKAnchors[0].Certificate = nil }, want: attest.ErrPolicy, says: "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			g.Install(t, m, c.edit)
			if c.change != nil {
				c.change()
			}
			p := policy()
			if c.policy != nil {
				c.policy(&p)
			}
			r, err := m.Input(t).Appraise(p)
			cause := err
			if err == nil {
				cause = r.Finding(attest.InstanceIdentity).Cause
			}
			if r.Accepted() != (c.want == nil) || !errors.Is(cause, c.want) || !strings.Contains(fmt.Sprint(cause), c.says) {
				t.Errorf("accepted %v, %v, want %v with %q", r.Accepted(), cause, c.want, c.says)
			}
		})
	}
}

// A revoked certificate refuses the machine, whatever else vouches for it; one
// that nobody accepts leaves it as it was.
func TestCertificateBesideAnEndorsementKeys(t *testing.T) {
	m, g, policy := onGoogle(t)
	m.PinSecureBoot()
	p := policy()
	p.TrustAnchors = m.PolicyAt(attest.TierProviderRooted).TrustAnchors
	p.AKAnchors[0].Certificate = verifiertest.NewGoogle(t).Root.Certificate
	if r, err := m.Input(t).Appraise(p); err != nil || !r.Accepted() {
		t.Errorf("of another authority: accepted %v, error %v", r.Accepted(), err)
	}
	p = policy()
	p.TrustAnchors = m.PolicyAt(attest.TierProviderRooted).TrustAnchors
	m.Endorsements.RevocationLists = [][]byte{g.Root.List(nil, g.Intermediate.Certificate)}
	refuseAs(t, m.Input(t), p, attest.ErrRevoked)
}

func refuseAs(t *testing.T, in verifiertest.Input, p verifier.Policy, want error) {
	t.Helper()
	r, err := in.Appraise(p)
	if err != nil || r.Accepted() || !errors.Is(r.Finding(attest.InstanceIdentity).Cause, want) {
		t.Errorf("accepted %v, error %v, want %v: %+v", r.Accepted(), err, want, r.Findings)
	}
}

// A list in its grace is a warning; what was found of a path is kept no longer
// than it holds, and not for another treatment of revocation.
func TestCertificatesPathIsKept(t *testing.T) {
	m, g, policy := onGoogle(t)
	m.Endorsements.RevocationLists = [][]byte{g.Root.List(func(l *x509.RevocationList) { l.NextUpdate = chaintest.Now.Add(-time.Minute) })}
	in, v := m.Input(t), new(verifier.Verifier)
	judge := func(change func(*verifier.Policy)) attest.Finding {
		p := policy()
		p.Grace = time.Hour
		change(&p)
		facts, err := v.Verify(in.Evidence, in.Nonce, in.Channel)
		if err != nil {
			t.Fatal(err)
		}
		r, err := verifier.Appraise(facts, verifier.NotActivated, p)
		if err != nil {
			t.Fatal(err)
		}
		return r.Finding(attest.InstanceIdentity)
	}
	if f := judge(func(*verifier.Policy) {}); f.Verdict != attest.Warning || !strings.Contains(f.Reason, "used in its grace") {
		t.Errorf("in its grace: %+v", f)
	}
	for name, c := range map[string]struct {
		change func(*verifier.Policy)
		want   error
	}{
		"past its grace": {func(p *verifier.Policy) { p.Now = p.Now.Add(61 * time.Minute) }, attest.ErrCollateral},
		"no grace":       {func(p *verifier.Policy) { p.Grace = 0 }, attest.ErrCollateral},
		"every issuer's": {func(p *verifier.Policy) { p.AKRevocation = chain.Required }, attest.ErrCollateral},
		"policy's own": {func(p *verifier.Policy) {
			p.RevocationLists = []*chain.List{g.Root.Parsed(nil, g.Intermediate.Certificate)}
		}, attest.ErrRevoked},
		"ended by itself": {func(p *verifier.Policy) { p.Now = p.Now.Add(24 * time.Hour) }, attest.ErrIdentity},
	} {
		if f := judge(c.change); !errors.Is(f.Cause, c.want) {
			t.Errorf("%s: %+v, want %v", name, f, c.want)
		}
	}
}
