package verifier_test

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// keeper verifies with one Verifier, which keeps what it finds, and says what
// became of one dimension.
type keeper struct {
	t         *testing.T
	verifier  verifier.Verifier
	dimension attest.Dimension
}

func (k *keeper) verify(in verifiertest.Input) *verifier.Verified {
	k.t.Helper()
	v, err := k.verifier.Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		k.t.Fatal(err)
	}
	return v
}

func (k *keeper) cause(v *verifier.Verified, p verifier.Policy) error {
	k.t.Helper()
	r, err := verifier.Appraise(v, verifier.ActivatedHere, p)
	if err != nil {
		k.t.Fatal(err)
	}
	return r.Finding(k.dimension).Cause
}

// holds wants the good policy to accept, then each other to refuse with its
// error what was just found good, and the good one to accept again.
func (k *keeper) holds(v *verifier.Verified, good func() verifier.Policy, others map[string]other) {
	k.t.Helper()
	for name, o := range others {
		if err := k.cause(v, good()); err != nil {
			k.t.Fatalf("before %s: %v", name, err)
		}
		p := good()
		o.change(&p)
		if err := k.cause(v, p); !errors.Is(err, o.want) {
			k.t.Errorf("%s: %v, want %v", name, err, o.want)
		}
		if err := k.cause(v, good()); err != nil {
			k.t.Errorf("after %s: %v", name, err)
		}
	}
}

type other struct {
	change func(*verifier.Policy)
	want   error
}

// past has a list's next update be an hour ago.
func past(l *x509.RevocationList) {
	l.ThisUpdate, l.NextUpdate = l.ThisUpdate.Add(-time.Hour), l.ThisUpdate
}

const grace = 3 * time.Hour

func TestEndorsementKeyIsKeptForOnePolicy(t *testing.T) {
	m, stranger := verifiertest.Boot(t), verifiertest.Boot(t)
	k := &keeper{t: t, dimension: attest.InstanceIdentity}
	k.holds(k.verify(m.Input(t)), m.Policy, map[string]other{
		"another root": {func(p *verifier.Policy) { p.TrustAnchors[0].Certificate = stranger.Device.Root }, attest.ErrIdentity},
		"lists wanted": {func(p *verifier.Policy) { p.EKRevocation = chain.Required }, attest.ErrCollateral},
		"past its end": {func(p *verifier.Policy) { p.Now = m.Device.Root.NotAfter.Add(time.Second) }, attest.ErrIdentity},
	})
}

func TestSNPEndorsementIsKeptForOnePolicy(t *testing.T) {
	m, w := onSNP(t)
	m.Endorsements.RevocationLists = [][]byte{w.Vendor.ARK.List(past)}
	stranger := verifiertest.NewSNP(t, "Milan")
	k := &keeper{t: t, dimension: attest.Hardware}
	good := func() verifier.Policy {
		p := m.Policy()
		p.SNP, p.Grace = w.Policy(), grace
		return p
	}
	k.holds(k.verify(m.Input(t)), good, map[string]other{
		"another root":    {func(p *verifier.Policy) { p.SNP.Anchors = []snp.Anchor{stranger.Vendor.Anchor()} }, attest.ErrIdentity},
		"another product": {func(p *verifier.Policy) { p.SNP.Anchors[0].Product = "Genoa" }, attest.ErrIdentity},
		"another layout":  {func(p *verifier.Policy) { p.SNP.Anchors[0].Layout = snp.LayoutTurin }, attest.ErrMalformed},
		"lists wanted":    {func(p *verifier.Policy) { p.SNP.Revocation = chain.Required }, attest.ErrCollateral},
		"no grace":        {func(p *verifier.Policy) { p.Grace = 0 }, attest.ErrCollateral},
		"almost no grace": {func(p *verifier.Policy) { p.Grace = time.Nanosecond }, attest.ErrCollateral},
		"past its end":    {func(p *verifier.Policy) { p.Now = p.Now.Add(24 * time.Hour) }, attest.ErrIdentity},
		"a list of the policy's": {func(p *verifier.Policy) {
			p.RevocationLists = []*chain.List{w.Vendor.ARK.Parsed(nil, w.Key.Authority)}
		}, attest.ErrRevoked},
	})
}

// One machine may show reports by either kind of key, with certificates of
// both beside the evidence.
func TestEachKindOfSNPKeyIsKeptApart(t *testing.T) {
	m, w := onSNP(t)
	vlek := w.Vendor.VLEK(nil)
	for _, key := range []*x509.Certificate{w.Key.Certificate, w.Key.Authority, vlek.Certificate, vlek.Authority} {
		m.Endorsements.ReportCertificates = append(m.Endorsements.ReportCertificates, key.Raw)
	}
	p := m.Policy()
	p.SNP = w.Policy()
	p.SNP.AllowVLEK = new(true)
	k := &keeper{t: t, dimension: attest.Hardware}
	for _, by := range []*verifiertest.SNP{w, {Vendor: w.Vendor, Key: vlek}} {
		m.Reporters = []attester.Reporter{withoutTable{by.Reporter(nil)}}
		if err := k.cause(k.verify(m.Input(t)), p); err != nil {
			t.Errorf("by a %s: %v", by.Key.Kind, err)
		}
	}
}

// withoutTable leaves the certificates out.
type withoutTable struct{ attester.Reporter }

func (w withoutTable) Report(data [64]byte) (evidence.Report, error) {
	r, err := w.Reporter.Report(data)
	r.Certificates = nil
	return r, err
}

func TestTDXEndorsementIsKeptForOnePolicy(t *testing.T) {
	m, x, stranger := verifiertest.Boot(t), verifiertest.NewTDX(t), verifiertest.NewTDX(t)
	x.EditList = past
	if err := x.Install(m, nil); err != nil {
		t.Fatal(err)
	}
	x.EditList, x.RevokePCK = nil, true
	revoking, err := chain.ParseList("pck crl", x.Collateral().PCKCRL)
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t, dimension: attest.Hardware}
	good := func() verifier.Policy {
		p := m.Policy()
		p.TDX = x.Policy()
		p.TDX.Grace = new(grace)
		return p
	}
	k.holds(k.verify(m.Input(t)), good, map[string]other{
		"another root":           {func(p *verifier.Policy) { p.TDX.Roots = stranger.Roots() }, attest.ErrIdentity},
		"no grace":               {func(p *verifier.Policy) { p.TDX.Grace = new(time.Duration) }, attest.ErrCollateral},
		"almost no grace":        {func(p *verifier.Policy) { p.TDX.Grace = new(time.Duration(1)) }, attest.ErrCollateral},
		"past its end":           {func(p *verifier.Policy) { p.Now = p.Now.Add(24 * time.Hour) }, attest.ErrIdentity},
		"a list of the policy's": {func(p *verifier.Policy) { p.RevocationLists = []*chain.List{revoking} }, attest.ErrRevoked},
	})
}

func TestNitroEndorsementIsKeptForOnePolicy(t *testing.T) {
	m := verifiertest.Boot(t)
	n, stranger := verifiertest.NewNitro(t, m), verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	m.PinSecureBoot()
	k := &keeper{t: t, dimension: attest.Hardware}
	good := func() verifier.Policy {
		p := m.Policy()
		p.Nitro = n.Policy()
		p.Nitro.MaxAge = 48 * time.Hour
		return p
	}
	v := k.verify(m.Input(t))
	k.holds(v, good, map[string]other{
		"another root":           {func(p *verifier.Policy) { p.Nitro.Roots = stranger.Terms().Roots }, attest.ErrIdentity},
		"past its end":           {func(p *verifier.Policy) { p.Now = p.Now.Add(24 * time.Hour) }, attest.ErrIdentity},
		"from before it was":     {func(p *verifier.Policy) { p.Nitro.MaxAge, p.Now = time.Minute, p.Now.Add(-time.Hour) }, attest.ErrPlatform},
		"a list of the policy's": {func(p *verifier.Policy) { p.RevocationLists = []*chain.List{n.Revoked()} }, attest.ErrRevoked},
	})
	// What one policy takes for a root, another document brings in its bundle.
	n.Install(m, func(d *nitrotest.Draft) { d.Fields["cabundle"] = d.Fields["cabundle"].([][]byte)[1:] })
	both := good()
	both.Nitro.Roots = append(stranger.Terms().Roots, both.Nitro.Roots...)
	if err := k.cause(k.verify(m.Input(t)), both); err != nil {
		t.Fatal(err)
	}
	both.Nitro.Roots = stranger.Terms().Roots
	if err := k.cause(v, both); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("a root out of the bundle: %v", err)
	}
}
