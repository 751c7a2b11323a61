package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/chain/chaintest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// onSNP are the attacks on a machine with an AMD SEV-SNP report.
func onSNP(tb testing.TB) ([]attack, error) {
	m, another := verifiertest.Boot(tb), verifiertest.Boot(tb)
	w := verifiertest.NewSNP(tb, "Milan")
	w.Install(m, nil)
	w.Install(another, nil)
	t := &target{tb: tb, machine: m, another: another, policy: func() verifier.Policy {
		p := m.Policy()
		p.SNP = w.Policy()
		return p
	}}
	all := t.bound()
	// reported has the processor report something else.
	reported := func(name string, r reason, edit func(*snp.Report)) {
		w.Install(m, edit)
		bad := judged(t.input(m).Appraise(t.policy()))
		w.Install(m, nil)
		all = append(all, t.refused(name, r, bad))
	}
	reported("guest that can be debugged", onPlatform("debug"), func(r *snp.Report) { r.Policy |= snp.PolicyDebug })
	reported("migration agent", onPlatform("migration"), func(r *snp.Report) { r.Policy |= snp.PolicyMigrationAgent })
	reported("report asked for at VMPL 1", onPlatform("vmpl"), func(r *snp.Report) { r.VMPL = 1 })
	reported("host's own report (VMPL -1)", onPlatform("vmpl"), func(r *snp.Report) { r.VMPL = ^uint32(0) })
	reported("another chip id", reason{kind: attest.ErrIdentity, says: "chip"}, func(r *snp.Report) { r.ChipID[0]++ })
	reported("masked chip id", onPlatform("masks"), func(r *snp.Report) { r.ChipID = [64]byte{} })
	reported("reported TCB not the key's", reason{kind: attest.ErrIdentity, says: "REPORTED_TCB"}, func(r *snp.Report) { r.ReportedTCB++ })
	reported("committed TCB below the floor", onPlatform("committed tcb"), func(r *snp.Report) { r.CommittedTCB = 0 })
	reported("firmware below the minimum", onPlatform("firmware"), func(r *snp.Report) { r.Current.Major = 0 })
	reported("signed as VLEK, shown as VCEK", reason{kind: attest.ErrIdentity, says: "no certificate of a VLEK"}, func(r *snp.Report) { r.Signer = snp.VLEK })
	reported("unsigned report", reason{kind: attest.ErrIdentity, says: "unsigned"}, func(r *snp.Report) { r.Signer = snp.Unsigned })
	for _, c := range snpReports {
		reported(c.name, c.reason, c.edit)
	}
	all = append(all, t.forged("report altered after it was signed", reason{kind: attest.ErrSignature}, func(r *evidence.Report) { r.Report[0x90] ^= 1 }))

	// endorsed has another key of the vendor's sign.
	endorsed := func(name string, r reason, other verifiertest.SNP, edit func(*snp.Report)) {
		other.Install(m, edit)
		bad := judged(t.input(m).Appraise(t.policy()))
		w.Install(m, nil)
		all = append(all, t.refused(name, r, bad))
	}
	vlek := verifiertest.SNP{Vendor: w.Vendor, Key: w.Vendor.VLEK(nil)}
	endorsed("VLEK where the policy wants a VCEK", onPlatform("VLEK"), vlek, func(r *snp.Report) { r.ChipID = [64]byte{} })
	endorsed("VLEK as VCEK", reason{kind: attest.ErrIdentity, says: "no certificate of a VCEK"}, vlek, func(r *snp.Report) { r.Signer = snp.VCEK })
	named := w.Vendor.VLEK(func(c *x509.Certificate) { c.Subject.CommonName = "SEV-VCEK" })
	endorsed("VLEK whose certificate is named a VCEK's", onIdentity("VLEK"), verifiertest.SNP{Vendor: w.Vendor, Key: named}, func(r *snp.Report) { r.Signer = snp.VCEK })
	endorsed("revoked authority", reason{kind: attest.ErrRevoked},
		verifiertest.SNP{Vendor: w.Vendor, Key: w.Key, Revoked: []*x509.Certificate{w.Vendor.ASK.Certificate}}, nil)
	m.Endorsements.RevocationLists = nil
	all = append(all, t.refusedKept(w, "revocation list left out", reason{kind: attest.ErrCollateral}))
	m.Endorsements.RevocationLists = [][]byte{w.Vendor.ARK.List(func(l *x509.RevocationList) {
		l.ThisUpdate, l.NextUpdate = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	})}
	all = append(all, t.refusedKept(w, "revocation list past its grace", reason{kind: attest.ErrCollateral}))

	other := verifiertest.NewSNP(tb, "Milan")
	all = append(all,
		t.under("TCB below the floor", onPlatform("tcb"), func(p *verifier.Policy) {
			high := uint8(255)
			floor := p.SNP.Floors["Milan"]
			floor.Microcode = &high
			p.SNP.Floors = map[string]verifier.SNPFloor{"Milan": floor}
		}),
		t.under("another vendor's root", unknownAuthority, func(p *verifier.Policy) { p.SNP.Anchors = []snp.Anchor{other.Vendor.Anchor()} }),
		t.under("AMD's own roots, and a root that a test drew", unknownAuthority, func(p *verifier.Policy) { p.SNP.Anchors = snp.AMD() }),
		t.under("product line without floors", onPlatform("line"), func(p *verifier.Policy) {
			p.SNP.Floors = map[string]verifier.SNPFloor{"Genoa": p.SNP.Floors["Milan"]}
		}),
		t.under("another launch measurement", onPlatform("measurement"), func(p *verifier.Policy) {
			p.SNP.AcceptAnyMeasurement, p.SNP.Measurements = false, [][48]byte{{1}}
		}),
		t.under("platform that the policy does not speak of", reason{kind: attest.ErrPlatform, says: "policy"}, func(p *verifier.Policy) { p.SNP = nil }),
		t.under("policy that leaves the VLEK unsaid", reason{kind: attest.ErrPolicy, says: "vlek"}, func(p *verifier.Policy) { p.SNP.AllowVLEK = nil }),
		t.under("emulated tpm's word for the memory", reason{kind: attest.ErrPlatform, says: "emulated tpm"}, func(p *verifier.Policy) {
			p.Minimum.Memory = attest.TierHardware
		}),
	)
	for _, c := range snpPolicies {
		all = append(all, t.under(c.name, c.reason, func(p *verifier.Policy) { c.change(p.SNP) }))
	}
	return all, nil
}

// refusedKept judges the machine as it is endorsed now, and its twin as the
// stand-in endorses it.
func (t *target) refusedKept(w *verifiertest.SNP, name string, r reason) attack {
	bad := judged(t.input(t.machine).Appraise(t.policy()))
	w.Install(t.machine, nil)
	return t.refused(name, r, bad)
}

// onTDX are the attacks on a machine with an Intel TDX quote.
func onTDX(tb testing.TB) ([]attack, error) {
	m, another := verifiertest.Boot(tb), verifiertest.Boot(tb)
	x := verifiertest.NewTDX(tb)
	if err := errors.Join(x.Install(m, nil), x.Install(another, nil)); err != nil {
		return nil, err
	}
	t := &target{tb: tb, machine: m, another: another, policy: func() verifier.Policy {
		p := m.Policy()
		p.TDX = x.Policy()
		return p
	}}
	all := t.bound()
	var failed error
	quoted := func(name string, r reason, edit func(*tdxtest.Draft)) {
		failed = errors.Join(failed, x.Install(m, edit))
		bad := judged(t.input(m).Appraise(t.policy()))
		failed = errors.Join(failed, x.Install(m, nil))
		all = append(all, t.refused(name, r, bad))
	}
	stranger := chaintest.P256(tb)
	quoted("td that can be debugged", reason{kind: attest.ErrPlatform, says: "debug"}, func(d *tdxtest.Draft) { d.Report.TDAttributes |= tdx.AttributeDebug })
	quoted("td attribute that is not allowed", reason{kind: attest.ErrPlatform, says: "attributes"}, func(d *tdxtest.Draft) { d.Report.TDAttributes |= 1 << 1 })
	quoted("module of another signer", onIdentity("mrsignerseam"), func(d *tdxtest.Draft) { d.Report.MRSIGNERSEAM[0] = 1 })
	quoted("module of an unknown version", onIdentity("module"), func(d *tdxtest.Draft) { d.Report.TEETCBSVN[1] = 9 })
	quoted("quoting enclave of another signer", onIdentity("mrsigner"), func(d *tdxtest.Draft) { d.QE.MRSIGNER[0]++ })
	quoted("attestation key that the enclave does not name", onIdentity("attestation key"), func(d *tdxtest.Draft) { d.Bound = &stranger.PublicKey })
	quoted("another TEE's quote", reason{kind: attest.ErrMalformed, says: "tee"}, func(d *tdxtest.Draft) { d.TEE = 0 })
	quoted("quote of version 3", reason{kind: attest.ErrMalformed, says: "version"}, func(d *tdxtest.Draft) { d.Version = 3 })
	for _, c := range tdxQuotes {
		quoted(c.name, c.reason, c.edit)
	}
	quoted("quoting enclave that another platform certifies", reason{kind: attest.ErrSignature}, func(d *tdxtest.Draft) { d.PCKKey = stranger })
	all = append(all, t.forged("quote altered after it was signed", reason{kind: attest.ErrSignature}, func(r *evidence.Report) { r.Report[60] ^= 1 }))
	for _, c := range tdxPolicies {
		all = append(all, t.under(c.name, c.reason, func(p *verifier.Policy) { c.change(p.TDX) }))
	}
	all = append(all,
		t.under("emulated tpm's word for the memory", reason{kind: attest.ErrPlatform, says: "emulated tpm"}, func(p *verifier.Policy) {
			p.Minimum.Memory = attest.TierHardware
		}),
		t.under("rating that the policy does not accept", reason{kind: attest.ErrPlatform, says: "rates"}, func(p *verifier.Policy) { p.TDX.Statuses = []tdx.Status{tdx.OutOfDate} }),
		t.under("older evaluation of Intel's", reason{kind: attest.ErrPlatform, says: "evaluation"}, func(p *verifier.Policy) { p.TDX.MinimumEvaluation = 1 << 20 }),
		t.under("another firmware (MRTD)", reason{kind: attest.ErrPlatform, says: "mrtd"}, func(p *verifier.Policy) {
			p.TDX.MRTD = verifier.TDXMeasurements{Accepted: []tdx.Measurement{{1}}}
		}),
		t.under("another image (RTMR 2)", reason{kind: attest.ErrPlatform, says: "rtmr2"}, func(p *verifier.Policy) {
			p.TDX.RTMR[2] = verifier.TDXMeasurements{Accepted: []tdx.Measurement{{1}}}
		}),
		t.under("Intel's own root, and a root that a test drew", unknownAuthority, func(p *verifier.Policy) { p.TDX.Roots = tdx.IntelRoots() }),
		t.under("platform that the policy does not speak of", reason{kind: attest.ErrPlatform, says: "policy"}, func(p *verifier.Policy) { p.TDX = nil }),
	)
	m.Endorsements.TDX = nil
	bare := judged(t.input(m).Appraise(t.policy()))
	failed = errors.Join(failed, x.Install(m, nil))
	all = append(all, t.refused("collateral left out", onCollateral(""), bare),
		t.forged("certificates beside a quote that has its own", onMalformed("certificates"), func(r *evidence.Report) { r.Certificates = []byte{1} }))
	for _, c := range tdxCollateral {
		bad := verifiertest.NewTDX(tb)
		c.change(bad.Platform)
		if err := bad.Install(m, nil); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		p := m.Policy()
		p.TDX = bad.Policy()
		refused := judged(t.input(m).Appraise(p))
		failed = errors.Join(failed, x.Install(m, nil))
		all = append(all, t.refused(c.name, c.reason, refused))
	}
	return all, failed
}

// onNitro are the attacks on a machine with an AWS NitroTPM document.
func onNitro(tb testing.TB) ([]attack, error) {
	m, another := verifiertest.Boot(tb), verifiertest.Boot(tb)
	n := verifiertest.NewNitro(tb, m)
	n.Install(m, nil)
	n.Install(another, nil)
	t := &target{tb: tb, machine: m, another: another, policy: func() verifier.Policy {
		p := m.Policy()
		p.TrustAnchors[0].Tier = attest.TierSoftware
		p.Nitro = n.Policy()
		m.PinSecureBoot()
		return p
	}}
	all := t.bound()
	documented := func(name string, r reason, edit func(*nitrotest.Draft)) {
		n.Install(m, edit)
		bad := judged(t.input(m).Appraise(t.policy()))
		n.Install(m, nil)
		all = append(all, t.refused(name, r, bad))
	}
	documented("document of another digest", reason{kind: attest.ErrMalformed, says: "digest"}, func(d *nitrotest.Draft) { d.Fields["digest"] = "SHA256" })
	documented("old document", reason{kind: attest.ErrPlatform, says: "from now"}, func(d *nitrotest.Draft) {
		d.Fields["timestamp"] = time.Now().Add(-90 * time.Minute).UnixMilli()
	})
	for _, c := range nitroDocuments {
		documented(c.name, c.reason, c.edit)
	}
	stranger := chaintest.P384(tb)
	documented("document that another key signed", reason{kind: attest.ErrSignature}, func(d *nitrotest.Draft) { d.Key = stranger })
	documented("certificate of another machine", unknownAuthority, func(d *nitrotest.Draft) { d.Fields["certificate"] = nitrotest.Draw(tb, nil).Signer.Raw })
	documented("unknown field", reason{kind: attest.ErrMalformed}, func(d *nitrotest.Draft) { d.Fields["extra"] = 1 })
	n.Registers[11] = nitro.Register{1}
	bad := judged(t.input(m).Appraise(t.policy()))
	n.Registers[11] = nitro.Register{11, 0xaa}
	all = append(all, t.refused("another register in the document", reason{kind: attest.ErrRegisters, says: "pcr11"}, bad),
		t.forged("certificates beside a document that has its own", onMalformed("certificates"), func(r *evidence.Report) { r.Certificates = []byte{1} }),
		t.under("policy that leaves the age unsaid", reason{kind: attest.ErrPolicy, says: "nitrotpm"}, func(p *verifier.Policy) { p.Nitro.MaxAge = 0 }),
		t.under("revoked signer", reason{kind: attest.ErrRevoked}, func(p *verifier.Policy) { p.RevocationLists = []*chain.List{n.Revoked()} }),
		t.under("AWS's own root, and a root that a test drew", unknownAuthority, func(p *verifier.Policy) { p.Nitro.Roots = nitro.AWSRoots() }),
		t.under("platform that the policy does not speak of", reason{kind: attest.ErrPlatform, says: "policy"}, func(p *verifier.Policy) { p.Nitro = nil }),
	)
	return all, nil
}
