package verifier_test

import (
	"errors"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// reporter stands in for a processor: it signs what it is given under a root
// that the test drew.
type reporter func(data [64]byte) evidence.Report

func (r reporter) Report(data [64]byte) (evidence.Report, error) { return r(data), nil }

var _ attester.Reporter = reporter(nil)

// snpWorld is a stand-in for AMD with a processor of its own.
type snpWorld struct {
	vendor *snptest.Vendor
	vcek   *snptest.Key
	crl    []byte
}

func newSNPWorld(t testing.TB) *snpWorld {
	v := snptest.Draw(t, "Milan")
	return &snpWorld{vendor: v, vcek: v.VCEK(nil), crl: v.ARK.List(nil)}
}

func (w *snpWorld) reporter(edit func(*snp.Report)) reporter {
	return func(data [64]byte) evidence.Report {
		return evidence.Report{Kind: evidence.KindSNP, Certificates: w.vcek.Table(), Report: w.vcek.Report(func(r *snp.Report) {
			r.ReportData = data
			if edit != nil {
				edit(r)
			}
		})}
	}
}

func (w *snpWorld) policy(p verifier.Policy) verifier.Policy {
	accepted := snpPolicy()
	accepted.Anchors = []snp.Anchor{w.vendor.Anchor()}
	accepted.Measurements, accepted.AcceptAnyMeasurement = nil, true
	p.SNP, p.Now = &accepted, time.Now()
	return p
}

// withReports is a machine whose certificates are valid at the stand-ins' time.
func withReports(t testing.TB, endorsements evidence.Endorsements, reporters ...attester.Reporter) (*machine, input) {
	t.Helper()
	m := boot(t)
	m.tpm.Reporters = reporters
	endorsements.EKCertificate = m.tpm.EKCertificate()
	encoded, err := endorsements.Encode()
	if err != nil {
		t.Fatal(err)
	}
	nonce := attest.Nonce{7}
	b, err := m.tpm.Evidence(attester.Subject{
		Channel: m.channel, Nonce: nonce, Config: attest.ConfigDigest(m.config), Endorsements: encoded,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, input{evidence: b, nonce: nonce, channel: m.channel}
}

// anchored is the machine's policy with its own authority at a tier. swtpm's
// certificates begin when they are made, so the time is today's.
func (m *machine) anchored(tier attest.Tier) verifier.Policy {
	p := m.policy()
	p.TrustAnchors[0].Tier = tier
	p.Minimum.Identity = tier
	return p
}

func TestSNPReportJoinsTheQuote(t *testing.T) {
	w := newSNPWorld(t)
	m, in := withReports(t, evidence.Endorsements{RevocationLists: [][]byte{w.crl}}, w.reporter(nil))
	m.pinSecureBoot()
	for name, c := range map[string]struct {
		tier   attest.Tier
		change func(*verifier.SNPPolicy)
		want   attest.Tiers
	}{
		// Whoever runs the emulator can have any guest of theirs name its key.
		"emulated tpm": {attest.TierSoftware, nil, attest.Tiers{Memory: attest.TierSoftware, Identity: attest.TierSoftware}},
		"cloud's tpm":  {attest.TierProviderRooted, nil, attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierProviderRooted}},
		"measured direct boot": {attest.TierSoftware, func(p *verifier.SNPPolicy) {
			p.Measurements, p.AcceptAnyMeasurement, p.MeasuredBoot = [][48]byte{{0xaa}}, false, true
		}, attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierHardware}},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.policy(m.anchored(c.tier))
			if c.change != nil {
				c.change(p.SNP)
			}
			r, err := appraise(in, p)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Accepted() || r.Tiers != c.want {
				t.Errorf("accepted %v, tiers %+v, want %+v: %+v", r.Accepted(), r.Tiers, c.want, r.Findings)
			}
		})
	}
	p := w.policy(m.anchored(attest.TierSoftware))
	p.Minimum.Memory = attest.TierHardware
	if r, err := appraise(in, p); err != nil || r.Accepted() {
		t.Errorf("an emulator's word for the memory: accepted %v, error %v", r.Accepted(), err)
	}
}

// tdxReporter signs quotes of a platform under a root that the test drew.
func tdxReporter(p *tdxtest.Platform, edit func(*tdxtest.Draft)) reporter {
	return func(data [64]byte) evidence.Report {
		return evidence.Report{Kind: evidence.KindTDX, Report: p.Quote(data, edit)}
	}
}

func TestTDXQuoteJoinsTheQuote(t *testing.T) {
	platform := tdxtest.Draw(t)
	collateral, err := platform.Collateral().Encode()
	if err != nil {
		t.Fatal(err)
	}
	m, in := withReports(t, evidence.Endorsements{TDX: collateral}, tdxReporter(platform, nil))
	p := m.anchored(attest.TierSoftware)
	p.TDX = tdxPolicy(platform)
	for _, m := range []*verifier.TDXMeasurements{&p.TDX.MRTD, &p.TDX.RTMR[1], &p.TDX.RTMR[2]} {
		*m = verifier.TDXMeasurements{Any: true}
	}
	r, err := appraise(in, p)
	if err != nil {
		t.Fatal(err)
	}
	if want := (attest.Tiers{Memory: attest.TierSoftware, Identity: attest.TierSoftware}); !r.Accepted() || r.Tiers != want {
		t.Errorf("accepted %v, tiers %+v, want %+v: %+v", r.Accepted(), r.Tiers, want, r.Findings)
	}
	pinned := *p.TDX
	p.TDX = &pinned
	pinned.MRTD = verifier.TDXMeasurements{Accepted: []tdx.Measurement{platform.Report.MRTD}}
	for _, n := range []int{1, 2} {
		pinned.RTMR[n] = verifier.TDXMeasurements{Accepted: []tdx.Measurement{platform.Report.RTMR[n]}}
	}
	m.pinSecureBoot()
	if r, err = appraise(in, p); err != nil || !r.Accepted() || r.Tiers.Identity != attest.TierHardware || r.Tiers.Memory != attest.TierHardware {
		t.Errorf("with the image's registers pinned: accepted %v, tiers %+v, error %v", r.Accepted(), r.Tiers, err)
	}
}

// Neither half can be exchanged alone: promise 2.
func TestReportsBindBothWays(t *testing.T) {
	w := newSNPWorld(t)
	lists := evidence.Endorsements{RevocationLists: [][]byte{w.crl}}
	m, good := withReports(t, lists, w.reporter(nil))
	_, other := withReports(t, lists, w.reporter(nil))
	p := w.policy(m.anchored(attest.TierSoftware))
	for name, c := range map[string]struct {
		change func(e, other *evidence.Evidence)
		want   error
	}{
		"another machine's report": {func(e, other *evidence.Evidence) { e.Reports = other.Reports }, attest.ErrBinding},
		"no report":                {func(e, _ *evidence.Evidence) { e.Reports = nil }, attest.ErrBinding},
		"another of the same data": {func(e, _ *evidence.Evidence) {
			data := [64]byte(e.Reports[0].Report[0x50:0x90])
			e.Reports[0] = w.reporter(func(r *snp.Report) { r.GuestSVN++ })(data)
		}, attest.ErrBinding},
		"report of another kind": {func(e, _ *evidence.Evidence) { e.Reports[0].Kind = evidence.KindTDX }, attest.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			e, o := decode(t, good.evidence), decode(t, other.evidence)
			c.change(e, o)
			in := good
			var err error
			if in.evidence, err = e.Encode(); err != nil {
				t.Fatal(err)
			}
			refuse(t, in, p, c.want)
		})
	}
	silent := w.policy(m.anchored(attest.TierSoftware))
	silent.SNP = nil
	r, err := appraise(good, silent)
	if err != nil || r.Accepted() || !errors.Is(r.Finding(attest.Hardware).Cause, attest.ErrPlatform) {
		t.Errorf("a platform that the policy does not speak of: accepted %v, error %v", r.Accepted(), err)
	}
}

func decode(t *testing.T, b []byte) *evidence.Evidence {
	t.Helper()
	e, err := evidence.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// pinSecureBoot has the release fix register 7 to what it is, as a boot with
// Secure Boot: above tier software no other is accepted.
func (m *machine) pinSecureBoot() {
	boot := &m.release.Boots[0]
	boot.SecureBoot, boot.SHA256["7"] = true, attest.Digest{}.String()
}
