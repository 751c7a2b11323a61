package verifier_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// onSNP is a machine on a processor that a stand-in for AMD vouches for.
func onSNP(t testing.TB) (*verifiertest.Machine, *verifiertest.SNP) {
	t.Helper()
	m, w := verifiertest.Boot(t), verifiertest.NewSNP(t, "Milan")
	w.Install(m, nil)
	return m, w
}

func TestSNPReportJoinsTheQuote(t *testing.T) {
	m, w := onSNP(t)
	m.PinSecureBoot()
	in := m.Input(t)
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
			p := m.PolicyAt(c.tier)
			p.SNP = w.Policy()
			if c.change != nil {
				c.change(p.SNP)
			}
			r, err := in.Appraise(p)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Accepted() || r.Tiers != c.want {
				t.Errorf("accepted %v, tiers %+v, want %+v: %+v", r.Accepted(), r.Tiers, c.want, r.Findings)
			}
		})
	}
	p := m.Policy()
	p.SNP = w.Policy()
	p.Minimum.Memory = attest.TierHardware
	if r, err := in.Appraise(p); err != nil || r.Accepted() {
		t.Errorf("an emulator's word for the memory: accepted %v, error %v", r.Accepted(), err)
	}
}

func TestTDXQuoteJoinsTheQuote(t *testing.T) {
	m, x := verifiertest.Boot(t), verifiertest.NewTDX(t)
	if err := x.Install(m, nil); err != nil {
		t.Fatal(err)
	}
	in, p := m.Input(t), m.Policy()
	p.TDX = x.Policy()
	r, err := in.Appraise(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := (attest.Tiers{Memory: attest.TierSoftware, Identity: attest.TierSoftware}); !r.Accepted() || r.Tiers != want {
		t.Errorf("accepted %v, tiers %+v, want %+v: %+v", r.Accepted(), r.Tiers, want, r.Findings)
	}
	pinned := *p.TDX
	p.TDX = &pinned
	pinned.MRTD = verifier.TDXMeasurements{Accepted: []tdx.Measurement{x.Report.MRTD}}
	for _, n := range []int{0, 1, 2} {
		pinned.RTMR[n] = verifier.TDXMeasurements{Accepted: []tdx.Measurement{x.Report.RTMR[n]}}
	}
	m.PinSecureBoot()
	if r, err = in.Appraise(p); err != nil || !r.Accepted() || r.Tiers.Identity != attest.TierHardware || r.Tiers.Memory != attest.TierHardware {
		t.Errorf("with the image's registers pinned: accepted %v, tiers %+v, error %v", r.Accepted(), r.Tiers, err)
	}
}

// Neither half can be exchanged alone: promise 2.
func TestReportsBindBothWays(t *testing.T) {
	m, w := onSNP(t)
	another, _ := onSNP(t)
	good, other := m.Input(t), another.Input(t)
	p := m.Policy()
	p.SNP = w.Policy()
	for name, c := range map[string]struct {
		change func(e, other *evidence.Evidence)
		want   error
	}{
		"another machine's report": {func(e, other *evidence.Evidence) { e.Reports = other.Reports }, attest.ErrBinding},
		"no report":                {func(e, _ *evidence.Evidence) { e.Reports = nil }, attest.ErrBinding},
		"another of the same data": {func(e, _ *evidence.Evidence) {
			data := [64]byte(e.Reports[0].Report[0x50:0x90])
			e.Reports[0], _ = w.Reporter(func(r *snp.Report) { r.GuestSVN++ }).Report(data)
		}, attest.ErrBinding},
		"report of another kind": {func(e, _ *evidence.Evidence) { e.Reports[0].Kind = evidence.KindTDX }, attest.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			e, o := decode(t, good.Evidence), decode(t, other.Evidence)
			c.change(e, o)
			in := good
			var err error
			if in.Evidence, err = e.Encode(); err != nil {
				t.Fatal(err)
			}
			refuse(t, in, p, c.want)
		})
	}
	silent := m.Policy()
	r, err := good.Appraise(silent)
	if err != nil || r.Accepted() || !errors.Is(r.Finding(attest.Hardware).Cause, attest.ErrPlatform) {
		t.Errorf("a platform that the policy does not speak of: accepted %v, error %v", r.Accepted(), err)
	}
}

// A report names the whole batch that the quote signs, how large it is too.
func TestReportNamesItsBatch(t *testing.T) {
	m, w := onSNP(t)
	p := m.Policy()
	p.SNP = w.Policy()
	in := m.Input(t)
	e := decode(t, in.Evidence)
	tree := evidence.NewTree([]attest.Digest{in.Channel.Leaf(in.Nonce, e.Config, e.Claim), {1}})
	e.Batch = tree.Place(0)
	for name, c := range map[string]struct {
		data func() [64]byte
		want error
	}{
		"its own":        {func() [64]byte { return attest.ReportData(m.TPM.AKName(), 2, tree.Root()) }, nil},
		"a batch of one": {func() [64]byte { return attest.ReportData(m.TPM.AKName(), 1, tree.Root()) }, attest.ErrBinding},
		"another key":    {func() [64]byte { return attest.ReportData([]byte("key"), 2, tree.Root()) }, attest.ErrBinding},
		"another moment": {func() [64]byte { return attest.ReportData(m.TPM.AKName(), 2, attest.Digest{}) }, attest.ErrBinding},
		"all but its end": {func() [64]byte {
			data := attest.ReportData(m.TPM.AKName(), 2, tree.Root())
			data[63] ^= 1
			return data
		}, attest.ErrBinding},
	} {
		report, err := w.Reporter(nil).Report(c.data())
		if err != nil {
			t.Fatal(err)
		}
		e.Reports = []evidence.Report{report}
		if e.TPM.Quote, e.TPM.Signature, err = m.Quote(attest.QuoteData(2, tree.Root(), e.ReportsDigest())); err != nil {
			t.Fatal(err)
		}
		if in.Evidence, err = e.Encode(); err != nil {
			t.Fatal(err)
		}
		if _, err = in.Appraise(p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func decode(t *testing.T, b []byte) *evidence.Evidence {
	t.Helper()
	e, err := evidence.Decode(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// AWS's document makes the identity as good as AWS, with no endorsement
// certificate and nobody to activate a key for; it says nothing of memory.
func TestNitroDocumentVouchesForTheKey(t *testing.T) {
	m := verifiertest.Boot(t)
	n := verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	m.PinSecureBoot()
	m.Release.Boots[0].SHA384["7"] = strings.Repeat("00", 48)
	p := m.PolicyAt(attest.TierProviderRooted)
	p.TrustAnchors[0].Tier = attest.TierSoftware
	p.Nitro = n.Policy()
	r, err := m.Input(t).Appraise(p)
	if want := (attest.Tiers{Identity: attest.TierProviderRooted}); err != nil || !r.Accepted() || r.Tiers != want {
		t.Fatalf("accepted %v, tiers %+v, want %+v, error %v: %+v", r.Accepted(), r.Tiers, want, err, r.Findings)
	}
	n.Registers[11] = nitro.Register{1}
	r, err = m.Input(t).Appraise(p)
	if err != nil || r.Accepted() || !errors.Is(r.Finding(attest.Hardware).Cause, attest.ErrRegisters) {
		t.Errorf("another register in the document: accepted %v, error %v, %+v", r.Accepted(), err, r.Findings)
	}
}

// A control plane that judges no reports keeps a machine that shows one, at
// the tier of its TPM.
func TestReportsThatAreNotJudged(t *testing.T) {
	m, w := onSNP(t)
	p := m.Policy()
	p.ReportsNotJudged = true
	r, err := m.Input(t).Appraise(p)
	if want := (attest.Tiers{Identity: attest.TierSoftware}); err != nil || !r.Accepted() || r.Tiers != want {
		t.Errorf("accepted %v, tiers %+v, want %+v, error %v", r.Accepted(), r.Tiers, want, err)
	}
	p.SNP = w.Policy()
	if _, err := m.Input(t).Appraise(p); !errors.Is(err, attest.ErrPolicy) {
		t.Errorf("not judged, and said how: %v", err)
	}
}
