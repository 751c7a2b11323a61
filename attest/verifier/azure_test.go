package verifier_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure/azuretest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// onAzure is a machine under a paravisor on a processor of AMD's, with the
// policy that accepts it.
func onAzure(t testing.TB) (*verifiertest.Machine, *verifiertest.Azure, func() verifier.Policy) {
	t.Helper()
	m := verifiertest.Boot(t)
	a := verifiertest.NewSNP(t, "Genoa").OnSNP(t, m)
	m.PinSecureBoot()
	return m, a, accepting(m, a.Accept)
}

// onAzureTDX is the same on one of Intel's.
func onAzureTDX(t testing.TB) (*verifiertest.Machine, *verifiertest.Azure, func() verifier.Policy) {
	t.Helper()
	m := verifiertest.Boot(t)
	a := verifiertest.NewTDX(t).OnTDX(t, m)
	m.PinSecureBoot()
	return m, a, accepting(m, a.Accept)
}

func accepting(m *verifiertest.Machine, accept func(*verifier.Policy)) func() verifier.Policy {
	return func() verifier.Policy {
		p := m.PolicyAt(attest.TierProviderRooted)
		accept(&p)
		return p
	}
}

// A pinned paravisor makes memory and identity hardware, on either processor;
// what its TPM keeps lies with the cloud.
func TestParavisorVouchesForItsKey(t *testing.T) {
	for name, boot := range map[string]func(testing.TB) (*verifiertest.Machine, *verifiertest.Azure, func() verifier.Policy){
		"snp": onAzure, "tdx": onAzureTDX,
	} {
		t.Run(name, func(t *testing.T) {
			m, _, policy := boot(t)
			p := policy()
			p.Minimum = attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierHardware}
			r, err := m.Input(t).Appraise(p)
			if want := (attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierHardware}); err != nil || !r.Accepted() || r.Tiers != want {
				t.Fatalf("accepted %v, tiers %+v, error %v: %+v", r.Accepted(), r.Tiers, err, r.Findings)
			}
			if f := r.Finding(attest.InstanceIdentity); f.Verdict != attest.Affirming || !strings.Contains(f.Reason, "paravisor") {
				t.Errorf("%+v", f)
			}
			claim := attest.Digest{5}
			m.Reboot(t)
			m.PinSecureBoot()
			m.Extend(t, attest.RegisterClaim, claim)
			in := verifiertest.Input{Evidence: m.Evidence(t, attest.Nonce{8}, claim), Nonce: attest.Nonce{8}, Channel: m.Channel}
			if r, err = in.Appraise(policy()); err != nil || !r.Accepted() || r.Tiers.Storage != attest.TierProviderRooted {
				t.Errorf("claimed: accepted %v, tiers %+v, error %v: %+v", r.Accepted(), r.Tiers, err, r.Findings)
			}
		})
	}
}

// What the policy says of guests' measurements is about guests: a measured boot
// of theirs makes none of a paravisor.
func TestGuestsMeasurementsAreNotTheParavisors(t *testing.T) {
	m, _, policy := onAzure(t)
	p := policy()
	p.SNP.Measurements, p.SNP.AcceptAnyMeasurement, p.SNP.MeasuredBoot = [][48]byte{{1}}, false, true
	r, err := m.Input(t).Appraise(p)
	if f := r.Finding(attest.Hardware); err != nil || !r.Accepted() || f.Verdict != attest.Affirming {
		t.Errorf("accepted %v, error %v: %+v", r.Accepted(), err, f)
	}
}

// An authority of endorsement keys that was found to vouch for one vouches for
// no attestation key of the same machine.
func TestPathsOfTheKeysAreKeptApart(t *testing.T) {
	m, _, _ := onGoogle(t)
	p := m.PolicyAt(attest.TierProviderRooted)
	p.AKAnchors, p.AKRevocation = p.TrustAnchors, p.EKRevocation
	if r, f := appraisedAs(t, m.Input(t), p, verifier.NotActivated); r.Accepted() || r.Tiers.Identity != attest.TierNone {
		t.Errorf("accepted %v, tiers %+v: %+v", r.Accepted(), r.Tiers, f)
	}
	if r, _ := appraisedAs(t, m.Input(t), p, verifier.ActivatedHere); !r.Accepted() {
		t.Error("activated, it is refused")
	}
	// Nor the other way round, whoever has activated the key.
	p.TrustAnchors = nil
	if r, f := appraisedAs(t, m.Input(t), p, verifier.ActivatedHere); r.Accepted() || r.Tiers.Identity != attest.TierNone {
		t.Errorf("by an authority of attestation keys: accepted %v, tiers %+v: %+v", r.Accepted(), r.Tiers, f)
	}
}

// The keys that the claims name live in one TPM where a credential for both
// can be opened; until somebody looked, the key is nobody's.
func TestParavisorsKeysAreActivated(t *testing.T) {
	m, a, policy := onAzure(t)
	in := m.Input(t)
	v, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		t.Fatal(err)
	}
	c, err := v.Challenge(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Activate(in.Channel, c.CredentialBlob, c.EncryptedSecret)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Answered(answer[:], in.Channel); err != nil {
		t.Error(err)
	}
	if v.EK.IsZero() || v.EK != c.EK {
		t.Errorf("endorsement key %s, challenged %s", v.EK, c.EK)
	}
	for how, want := range map[verifier.Activation]attest.Verdict{
		verifier.NotActivated: attest.NoClaim, verifier.ActivatedHere: attest.Affirming,
		verifier.ActivatedBefore: attest.Affirming, verifier.ActivatedBySaver: attest.Warning,
	} {
		r, f := appraisedAs(t, in, policy(), how)
		if f.Verdict != want || r.Accepted() != (how != verifier.NotActivated) || (r.Tiers.Identity == attest.TierNone) != (how == verifier.NotActivated) {
			t.Errorf("activation %d: %+v, tiers %+v", how, f, r.Tiers)
		}
	}
	if r, _ := appraisedAs(t, in, policy(), verifier.NotActivated); r.Tiers.Memory != attest.TierNone {
		t.Errorf("memory of nobody's key is %s", r.Tiers.Memory)
	}
}

// A key that somebody with the owner's authorization put in place of the
// paravisor's is named by the claims, and signs whatever its maker likes, with
// whatever attributes they claim for it: the TPM, which knows better, opens no
// credential for that name, and without one nothing comes of the report.
func TestKeyInPlaceOfTheParavisors(t *testing.T) {
	m, a, policy := onAzure(t)
	theirs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a.Replace(t, theirs)
	in := m.Input(t)
	if _, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel); !errors.Is(err, attest.ErrIdentity) {
		t.Errorf("with the attributes that it has: %v", err)
	}
	in.Evidence = a.Forge(t, in, theirs)
	v, err := new(verifier.Verifier).Verify(in.Evidence, in.Nonce, in.Channel)
	if err != nil {
		t.Fatal(err)
	}
	r, f := appraisedAs(t, in, policy(), verifier.NotActivated)
	if r.Accepted() || r.Tiers != (attest.Tiers{}) || !strings.Contains(f.Reason, "nobody has checked") {
		t.Errorf("accepted %v, tiers %+v: %+v", r.Accepted(), r.Tiers, f)
	}
	c, err := v.Challenge(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Activate(in.Channel, c.CredentialBlob, c.EncryptedSecret); !errors.Is(err, tpm2.TPMRCIntegrity) {
		t.Errorf("a credential for a key that the tpm does not have: %v", err)
	}
}

func TestParavisorIsRefused(t *testing.T) {
	m, a, policy := onAzure(t)
	good, claims := m.Input(t), a.Claims
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	other := verifiertest.NewSNP(t, "Genoa")
	for name, c := range map[string]struct {
		snp    func(*snp.Report)
		claims string
		index  func([]byte) []byte
		policy func(*verifier.Policy)
		want   error
		says   string
	}{
		"another measurement": {snp: func(r *snp.Report) { r.Measurement[0]++ }, want: attest.ErrPlatform, says: "measurement"},
		"vmpl 1":              {snp: func(r *snp.Report) { r.VMPL = 1 }, want: attest.ErrPlatform, says: "vmpl"},
		"debug":               {snp: func(r *snp.Report) { r.Policy |= snp.PolicyDebug }, want: attest.ErrPlatform, says: "debug"},
		"tcb":                 {snp: func(r *snp.Report) { r.CommittedTCB = 0 }, want: attest.ErrPlatform, says: "committed tcb"},
		"chip":                {snp: func(r *snp.Report) { r.ChipID[0]++ }, want: attest.ErrIdentity, says: "chip"},
		"another's key":       {claims: azuretest.Claims(&stranger.PublicKey, a.EK), want: attest.ErrBinding, says: "another key"},
		"report data":         {snp: func(r *snp.Report) { r.ReportData[40]++ }, want: attest.ErrBinding, says: "runtime claims"},
		"claims":              {index: func(b []byte) []byte { b[azuretest.RequestAt+30] ^= 1; return b }, want: attest.ErrBinding, says: "runtime claims"},
		"no endorsement key":  {claims: strings.Replace(a.Claims, "HCLEkPub", "HCLOther", 1), want: attest.ErrIdentity, says: "no endorsement key"},
		"another hash":        {index: func(b []byte) []byte { b[azuretest.RequestAt+12] = 3; return b }, want: attest.ErrBinding, says: "runtime claims"},
		"tdx by its type":     {index: func(b []byte) []byte { b[azuretest.RequestAt+8] = 4; return b }, want: attest.ErrMalformed, says: "tdx"},
		"not pinned at all":   {policy: func(p *verifier.Policy) { p.Azure = nil }, want: attest.ErrPlatform, says: "pins no paravisor"},
		"pinned on tdx alone": {policy: func(p *verifier.Policy) {
			p.TDX, p.Azure = verifiertest.NewTDX(t).Policy(), &verifier.AzurePolicy{TDX: []tdx.Measurement{{0xaa}}}
		}, want: attest.ErrPlatform, says: "for this processor"},
		"pinned in snp": {policy: func(p *verifier.Policy) {
			p.SNP.Measurements, p.SNP.AcceptAnyMeasurement, p.SNP.MeasuredBoot = [][48]byte{{0xaa}}, false, true
			p.Azure.SNP = [][48]byte{{1}}
		}, want: attest.ErrPlatform, says: "measurement"},
		"no floors":            {policy: func(p *verifier.Policy) { p.SNP.Floors["Milan"] = p.SNP.Floors["Genoa"]; delete(p.SNP.Floors, "Genoa") }, want: attest.ErrPlatform, says: "line"},
		"another vendor":       {policy: func(p *verifier.Policy) { p.SNP.Anchors = other.Policy().Anchors }, want: attest.ErrIdentity},
		"pinned and no snp":    {policy: func(p *verifier.Policy) { p.SNP = nil }, want: attest.ErrPolicy, says: "snp"},
		"nothing pinned":       {policy: func(p *verifier.Policy) { p.Azure = new(verifier.AzurePolicy) }, want: attest.ErrPolicy, says: "pinned"},
		"pinned and no tdx":    {policy: func(p *verifier.Policy) { p.Azure.TDX = []tdx.Measurement{{1}} }, want: attest.ErrPolicy, says: "tdx"},
		"not judged, and said": {policy: func(p *verifier.Policy) { p.SNP, p.ReportsNotJudged = nil, true }, want: attest.ErrPolicy, says: "not to be judged"},
		"as a guest's report":  {policy: func(p *verifier.Policy) { p.Azure = nil; p.SNP.AcceptAnyMeasurement = true }, want: attest.ErrPlatform},
		"the twin":             {},
	} {
		t.Run(name, func(t *testing.T) {
			a.Claims, a.EditSNP, a.EditIndex = claims, c.snp, c.index
			if c.claims != "" {
				a.Claims = c.claims
			}
			p := policy()
			if c.policy != nil {
				c.policy(&p)
			}
			r, err := m.Input(t).Appraise(p)
			if c.want == nil {
				if err != nil || !r.Accepted() {
					t.Errorf("the twin: accepted %v, error %v", r.Accepted(), err)
				}
				return
			}
			cause := err
			if err == nil {
				cause = r.Finding(attest.Hardware).Cause
				if r.Tiers.Memory != attest.TierNone || r.Tiers.Identity != attest.TierNone {
					t.Errorf("tiers %+v", r.Tiers)
				}
			}
			if r.Accepted() || !errors.Is(cause, c.want) || !strings.Contains(fmt.Sprint(cause), c.says) {
				t.Errorf("accepted %v, %v, want %v with %q", r.Accepted(), cause, c.want, c.says)
			}
		})
	}
	if r, err := good.Appraise(policy()); err != nil || !r.Accepted() {
		t.Errorf("the first: accepted %v, error %v", r.Accepted(), err)
	}
}

func TestParavisorOnTDXIsRefused(t *testing.T) {
	m, a, policy := onAzureTDX(t)
	for name, c := range map[string]struct {
		edit   func(*tdxtest.Draft)
		policy func(*verifier.Policy)
		want   error
		says   string
	}{
		"another mrtd":        {edit: func(d *tdxtest.Draft) { d.Report.MRTD[0]++ }, want: attest.ErrPlatform, says: "mrtd"},
		"debug":               {edit: func(d *tdxtest.Draft) { d.Report.TDAttributes |= tdx.AttributeDebug }, want: attest.ErrPlatform, says: "debug"},
		"report data":         {edit: func(d *tdxtest.Draft) { d.Report.ReportData[0]++ }, want: attest.ErrBinding, says: "runtime claims"},
		"not pinned":          {policy: func(p *verifier.Policy) { p.Azure = nil }, want: attest.ErrPlatform, says: "pins no paravisor"},
		"pinned in tdx alone": {policy: func(p *verifier.Policy) { p.Azure.TDX = []tdx.Measurement{{1}} }, want: attest.ErrPlatform, says: "mrtd"},
		"pinned on snp alone": {policy: func(p *verifier.Policy) {
			p.SNP, p.Azure = verifiertest.NewSNP(t, "Genoa").Policy(), &verifier.AzurePolicy{SNP: [][48]byte{a.TDX.Report.MRTD}}
		}, want: attest.ErrPlatform, says: "for this processor"},
		"the twin": {},
	} {
		t.Run(name, func(t *testing.T) {
			a.EditTDX = c.edit
			p := policy()
			if c.policy != nil {
				c.policy(&p)
			}
			r, err := m.Input(t).Appraise(p)
			if c.want == nil {
				if err != nil || !r.Accepted() {
					t.Errorf("accepted %v, error %v", r.Accepted(), err)
				}
				return
			}
			cause := err
			if err == nil {
				cause = r.Finding(attest.Hardware).Cause
			}
			if r.Accepted() || !errors.Is(cause, c.want) || !strings.Contains(fmt.Sprint(cause), c.says) {
				t.Errorf("accepted %v, %v, want %v with %q", r.Accepted(), cause, c.want, c.says)
			}
		})
	}
}

// A guest's own report of the very measurement, whose data names a key of an
// emulator's, is of a lower VMPL; and where its measurement is another, nobody
// pinned it. A report for the one kind is none for the other.
func TestGuestNamesItsOwnKey(t *testing.T) {
	m, a, policy := onAzure(t)
	in := m.Input(t)
	e := decode(t, in.Evidence)
	p := policy()
	for kind, want := range map[evidence.Kind]error{evidence.KindAzure: nil, evidence.KindSNP: attest.ErrMalformed, evidence.KindTDX: attest.ErrMalformed, evidence.KindNitroTPM: attest.ErrMalformed} {
		e.Reports[0].Kind = kind
		requote(t, m, a, e, &in)
		if _, err := in.Appraise(p); !errors.Is(err, want) {
			t.Errorf("as kind %d: %v, want %v", kind, err, want)
		}
	}
	report, err := a.SNP.Reporter(nil).Report(azuretest.ReportData(a.Claims, azuretest.SHA256))
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[evidence.Kind]error{evidence.KindAzure: attest.ErrMalformed, evidence.KindSNP: attest.ErrBinding} {
		e.Reports = []evidence.Report{{Kind: kind, Report: report.Report, Certificates: report.Certificates}}
		requote(t, m, a, e, &in)
		if _, err := in.Appraise(p); !errors.Is(err, want) {
			t.Errorf("the processor's report alone, as kind %d: %v, want %v", kind, err, want)
		}
	}
}

// requote has the paravisor's key sign what e is now, and puts it into in.
func requote(t *testing.T, m *verifiertest.Machine, a *verifiertest.Azure, e *evidence.Evidence, in *verifiertest.Input) {
	t.Helper()
	if err := a.Sign(m, e, in.Channel.Leaf(in.Nonce, e.Config, e.Claim)); err != nil {
		t.Fatal(err)
	}
	var err error
	if in.Evidence, err = e.Encode(); err != nil {
		t.Fatal(err)
	}
}

// The quote names the report, and nothing else in its place.
func TestQuoteNamesTheParavisorsReport(t *testing.T) {
	m, a, policy := onAzure(t)
	in := m.Input(t)
	e := decode(t, in.Evidence)
	e.Reports = []evidence.Report{a.Report()}
	if bytes.Equal(e.Reports[0].Report, decode(t, in.Evidence).Reports[0].Report) {
		t.Fatal("two signatures are alike")
	}
	var err error
	if in.Evidence, err = e.Encode(); err != nil {
		t.Fatal(err)
	}
	refuse(t, in, policy(), attest.ErrBinding)
}

// An endorsement certificate beside the report has to be of the key that the
// claims name.
func TestEndorsementKeyIsTheClaims(t *testing.T) {
	m, a, policy := onAzure(t)
	g := verifiertest.NewGoogle(t)
	certified := func(key *rsa.PublicKey) verifiertest.Input {
		in := m.Input(t)
		e := decode(t, in.Evidence)
		shown, err := evidence.DecodeEndorsements(e.Endorsements)
		if err != nil {
			t.Fatal(err)
		}
		shown.EKCertificate = g.Root.Leaf("", key, nil).Raw
		if e.Endorsements, err = shown.Encode(); err != nil {
			t.Fatal(err)
		}
		if in.Evidence, err = e.Encode(); err != nil {
			t.Fatal(err)
		}
		return in
	}
	if r, err := certified(a.EK).Appraise(policy()); err != nil || !r.Accepted() {
		t.Errorf("its own: accepted %v, error %v", r.Accepted(), err)
	}
	refuse(t, certified(a.AK), policy(), attest.ErrBinding)
}

// Certificates beside a quote of TDX, which has its own, are refused.
func TestParavisorsCertificates(t *testing.T) {
	m, a, policy := onAzureTDX(t)
	in := m.Input(t)
	e := decode(t, in.Evidence)
	e.Reports[0].Certificates = snptest.Draw(t, "Genoa").VCEK(nil).Table()
	requote(t, m, a, e, &in)
	refuse(t, in, policy(), attest.ErrMalformed)
}
