package verifier_test

import (
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// An endorsement certificate is public: whoever has one of a maker's TPM shows
// it beside a cloud's document for a key of their own. What that authority is
// worth counts for no key that was not activated, nor is it affirmed on a
// saver's word.
func TestForeignEndorsementLendsNoTier(t *testing.T) {
	m := verifiertest.Boot(t)
	m.PinSecureBoot()
	n := verifiertest.NewNitro(t, m)
	n.Install(m, nil)
	p := m.PolicyAt(attest.TierHardware)
	p.Nitro = n.Policy()
	in := m.Input(t)
	for how, tier := range map[verifier.Activation]attest.Tier{
		verifier.NotActivated: attest.TierProviderRooted, verifier.ActivatedBySaver: attest.TierHardware,
	} {
		p.Minimum.Identity = attest.TierProviderRooted
		a, f := appraisedAs(t, in, p, how)
		if a.Tiers.Identity != tier || tier == attest.TierHardware && f.Verdict != attest.Warning {
			t.Errorf("activation %d: identity of tier %s, want %s: %s, %s", how, a.Tiers.Identity, tier, f.Verdict, f.Reason)
		}
	}
	p.Minimum.Identity = attest.TierHardware
	if a, f := appraisedAs(t, in, p, verifier.NotActivated); a.Accepted() {
		t.Errorf("accepted as of tier %s: %s", a.Tiers.Identity, f.Reason)
	}
}

// withTable is a reporter whose report comes with another table.
type withTable struct {
	attester.Reporter
	prefix []byte
}

func (w withTable) Report(data [64]byte) (evidence.Report, error) {
	r, err := w.Reporter.Report(data)
	r.Certificates = append(append([]byte{}, w.prefix...), r.Certificates...)
	return r, err
}

// A verifier that serves two policies keeps what each accepts apart: what the
// machine shows can't be made to read as the other's roots.
func TestPoliciesShareNoAuthority(t *testing.T) {
	m, w := onSNP(t)
	other := verifiertest.NewSNP(t, "Genoa")
	wide, narrow := m.Policy(), m.Policy()
	wide.SNP, narrow.SNP = w.Policy(), other.Policy()
	wide.SNP.Anchors = []snp.Anchor{other.Vendor.Anchor(), w.Vendor.Anchor()}
	narrow.SNP.Floors = wide.SNP.Floors
	shared := new(verifier.Verifier)
	judge := func(in verifiertest.Input, p verifier.Policy) attest.AttestationResult {
		t.Helper()
		v, err := shared.Verify(in.Evidence, in.Nonce, in.Channel)
		if err != nil {
			t.Fatal(err)
		}
		a, err := verifier.Appraise(v, verifier.ActivatedHere, p)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := judge(m.Input(t), wide); !a.Accepted() {
		t.Fatalf("by the wide policy: %+v", a.Findings)
	}
	anchor := w.Vendor.Anchor()
	m.Reporters = []attester.Reporter{withTable{w.Reporter(nil), append([]byte(anchor.Product), anchor.Root.Raw...)}}
	if a := judge(m.Input(t), narrow); a.Accepted() {
		t.Errorf("by a policy that does not have the vendor: %+v", a.Finding(attest.Hardware))
	}
}

// A processor that shows the image that booted says nothing of the TPM in which
// that image sealed the data key: beside a measured direct boot it is the host's
// emulator.
func TestMeasuredBootSealsNoBetter(t *testing.T) {
	m, w := onSNP(t)
	m.PinSecureBoot()
	claim := attest.Digest{5}
	m.Extend(t, attest.RegisterClaim, claim)
	p := m.Policy()
	p.SNP = w.Policy()
	p.SNP.Measurements, p.SNP.AcceptAnyMeasurement, p.SNP.MeasuredBoot = [][48]byte{{0xaa}}, false, true
	nonce := attest.Nonce{7}
	in := verifiertest.Input{Evidence: m.Evidence(t, nonce, claim), Nonce: nonce, Channel: m.Channel}
	r, err := in.Appraise(p)
	if want := (attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierHardware, Storage: attest.TierSoftware}); err != nil || r.Tiers != want {
		t.Errorf("tiers %+v, want %+v, error %v: %+v", r.Tiers, want, err, r.Findings)
	}
	if f := r.Finding(attest.StorageOpaque); f.Verdict != attest.NoClaim {
		t.Errorf("storage is %s: %s", f.Verdict, f.Reason)
	}
	p.Minimum.Storage = attest.TierHardware
	if r, err := in.Appraise(p); err != nil || r.Accepted() {
		t.Errorf("below the minimum for storage: accepted %v, error %v", r.Accepted(), err)
	}
}
