package verifier_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// Of several that vouch the best counts, in whatever order they stand.
func TestBestVoucherCounts(t *testing.T) {
	m := verifiertest.Boot(t)
	m.PinSecureBoot()
	in, p := m.Input(t), m.PolicyAt(attest.TierProviderRooted)
	p.TrustAnchors = append(p.TrustAnchors, p.TrustAnchors[0])
	p.TrustAnchors[1].Tier = attest.TierSoftware
	for range 2 {
		if r, err := in.Appraise(p); err != nil || !r.Accepted() || r.Tiers.Identity != attest.TierProviderRooted {
			t.Errorf("accepted %v, tiers %+v, error %v", r.Accepted(), r.Tiers, err)
		}
		slices.Reverse(p.TrustAnchors)
	}
}

// A report of less worth takes nothing from another of more.
func TestBestReportCounts(t *testing.T) {
	m, w := onSNP(t)
	snp := m.Reporters
	n := verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	m.Reporters = append(snp, m.Reporters...)
	m.PinSecureBoot()
	m.Release.Boots[0].SHA384["7"] = strings.Repeat("00", 48)
	p := m.Policy()
	p.SNP, p.Nitro = w.Policy(), n.Policy()
	p.SNP.Measurements, p.SNP.AcceptAnyMeasurement, p.SNP.MeasuredBoot = [][48]byte{{0xaa}}, false, true
	r, err := m.Input(t).Appraise(p)
	if want := (attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierHardware}); err != nil || !r.Accepted() || r.Tiers != want {
		t.Errorf("accepted %v, tiers %+v, want %+v, error %v: %+v", r.Accepted(), r.Tiers, want, err, r.Findings)
	}
}

// What a NitroTPM keeps is worth what its cloud's word is.
func TestNitroKeepsTheDataKey(t *testing.T) {
	m := verifiertest.Boot(t)
	n := verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	m.PinSecureBoot()
	m.Release.Boots[0].SHA384["7"] = strings.Repeat("00", 48)
	claim := attest.Digest{5}
	m.Extend(t, attest.RegisterClaim, claim)
	p := m.PolicyAt(attest.TierProviderRooted)
	p.TrustAnchors, p.Nitro = nil, n.Policy()
	in := verifiertest.Input{Evidence: m.Evidence(t, attest.Nonce{8}, claim), Nonce: attest.Nonce{8}, Channel: m.Channel}
	if r, err := in.Appraise(p); err != nil || !r.Accepted() || r.Tiers.Storage != attest.TierProviderRooted {
		t.Errorf("accepted %v, tiers %+v, error %v: %+v", r.Accepted(), r.Tiers, err, r.Findings)
	}
}

// Each kind of report whose data is the guest's own has to name this key and
// this moment: another's of the same processor does not, though the quote names
// it.
func TestEachReportNamesTheKey(t *testing.T) {
	m := verifiertest.Boot(t)
	x, n, w := verifiertest.NewTDX(t), verifiertest.NewNitro(t, m), verifiertest.NewSNP(t, "Milan")
	all := map[string]func(){
		"tdx": func() {
			if err := x.Install(m, nil); err != nil {
				t.Fatal(err)
			}
		},
		"nitrotpm": func() { n.Install(m, nil) },
		"snp":      func() { w.Install(m, nil) },
	}
	for name, install := range all {
		install()
		in := m.Input(t)
		e := decode(t, in.Evidence)
		for same, want := range map[bool]error{true: nil, false: attest.ErrBinding} {
			root, err := e.Batch.Root(in.Channel.Leaf(in.Nonce, e.Config, e.Claim))
			if err != nil {
				t.Fatal(err)
			}
			data := attest.ReportData(m.TPM.AKName(), e.Batch.Count, root)
			if !same {
				data[63]++
			}
			report, err := m.Reporters[0].Report(data)
			if err != nil {
				t.Fatal(err)
			}
			e.Reports = []evidence.Report{report}
			if e.TPM.Quote, e.TPM.Signature, err = m.Quote(attest.QuoteData(e.Batch.Count, root, e.ReportsDigest())); err != nil {
				t.Fatal(err)
			}
			b, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := new(verifier.Verifier).Verify(b, in.Nonce, in.Channel); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
}
