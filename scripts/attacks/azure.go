package main

import (
	"crypto/rand"
	"crypto/rsa"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure/azuretest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// paravised is a target under a paravisor, with a stranger's key.
type paravised struct {
	*target
	start     func(*verifiertest.Machine) *verifiertest.Azure
	paravisor *verifiertest.Azure
	stranger  *rsa.PrivateKey
	claims    string
}

func underParavisor(tb testing.TB, start func(*verifiertest.Machine) *verifiertest.Azure) (*paravised, error) {
	m, another := verifiertest.Boot(tb), verifiertest.Boot(tb)
	a := start(m)
	start(another)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	return &paravised{
		paravisor: a, stranger: stranger, claims: a.Claims, start: start,
		target: &target{tb: tb, machine: m, another: another, policy: func() verifier.Policy {
			p := m.PolicyAt(attest.TierProviderRooted)
			a.Accept(&p)
			p.Minimum.Memory, p.Minimum.Identity = attest.TierHardware, attest.TierHardware
			m.PinSecureBoot()
			return p
		}},
	}, err
}

// changed has the paravisor, or who plays it, leave something else in the TPM.
func (t *paravised) changed(name string, r reason, change func(*verifiertest.Azure)) attack {
	change(t.paravisor)
	bad := judged(t.input(t.machine).Appraise(t.policy()))
	t.paravisor.Claims, t.paravisor.EditSNP, t.paravisor.EditTDX, t.paravisor.EditIndex = t.claims, nil, nil, nil
	return t.refused(name, r, bad)
}

// index changes one byte of what lies in the TPM.
func (t *paravised) index(name string, r reason, at int, value byte) attack {
	return t.changed(name, r, func(a *verifiertest.Azure) {
		a.EditIndex = func(b []byte) []byte {
			b[at] = value
			return b
		}
	})
}

// named are the attacks on whose key it is, the same on each processor.
func (t *paravised) named() []attack {
	claimed := reason{kind: attest.ErrBinding, says: "runtime claims"}
	return []attack{
		t.changed("attestation key not the one in the claims", reason{kind: attest.ErrBinding, says: "another key"}, func(a *verifiertest.Azure) {
			a.Claims = azuretest.Claims(&t.stranger.PublicKey, a.EK)
		}),
		t.changed("claims that name no endorsement key", reason{kind: attest.ErrIdentity, says: "no endorsement key"}, func(a *verifiertest.Azure) {
			a.Claims = strings.Replace(a.Claims, "HCLEkPub", "HCLOther", 1)
		}),
		t.index("claims altered", claimed, azuretest.RequestAt+30, '!'),
		t.index("hash of another type", claimed, azuretest.RequestAt+12, azuretest.SHA512),
		t.index("hash of an unknown type", reason{kind: attest.ErrMalformed, says: "hash type"}, azuretest.RequestAt+12, 9),
		t.index("report of an unknown type", reason{kind: attest.ErrMalformed, says: "report type"}, azuretest.RequestAt+8, 9),
		t.index("another request than the index holds", reason{kind: attest.ErrMalformed, says: "request type"}, 12, 1),
		t.index("unknown version of the index", reason{kind: attest.ErrMalformed, says: "version"}, 4, 9),
		t.certified("certificate of another endorsement key beside the report", onBinding("another endorsement key")),
		t.refused("quote by another key of the same tpm", reason{kind: attest.ErrBinding, says: "another key"}, t.quotedByAgent()),
		t.refused("key put in place of the paravisor's", reason{kind: attest.ErrIdentity, says: "credential"}, t.replaced()),
		t.refused("nobody activated the paravisor's key", nobodyActivated, t.notActivated()),
		t.under("no paravisor pinned", reason{kind: attest.ErrPlatform, says: "pins no paravisor"}, func(p *verifier.Policy) { p.Azure = nil }),
		t.under("policy that pins an empty list", reason{kind: attest.ErrPolicy, says: "azure"}, func(p *verifier.Policy) { p.Azure = new(verifier.AzurePolicy) }),
	}
}

// certified shows a certificate of the attestation key as the endorsement
// key's; its twin is of the endorsement key that the claims name.
func (t *paravised) certified(name string, r reason) attack {
	maker := verifiertest.NewGoogle(t.tb).Root
	shown := func(key *rsa.PublicKey) outcome {
		t.machine.Endorsements.EKCertificate = maker.Leaf("ek", key, nil).Raw
		defer func() { t.machine.Endorsements.EKCertificate = nil }()
		return judged(t.input(t.machine).Appraise(t.policy()))
	}
	return attack{name: name, reason: r, good: shown(t.paravisor.EK), bad: shown(t.paravisor.AK)}
}

// besideQuote has certificates come along with the paravisor's report.
func (t *paravised) besideQuote(table []byte) outcome {
	return judged(t.alter(func(e *evidence.Evidence) {
		e.Reports[0].Certificates = table
		if err := t.paravisor.Sign(t.machine, e, t.leaf(e)); err != nil {
			t.tb.Fatal(err)
		}
	}).Appraise(t.policy()))
}

// quotedByAgent has another restricted key of the TPM sign, which the claims do
// not name.
func (t *paravised) quotedByAgent() outcome {
	return judged(t.alter(func(e *evidence.Evidence) {
		root, err := e.Batch.Root(t.machine.Channel.Leaf(e.Nonce, e.Config, e.Claim))
		if err != nil {
			t.tb.Fatal(err)
		}
		e.TPM.AKPublic = t.machine.TPM.AKPublic()
		if e.TPM.Quote, e.TPM.Signature, err = t.machine.Quote(attest.QuoteData(e.Batch.Count, root, e.ReportsDigest())); err != nil {
			t.tb.Fatal(err)
		}
	}).Appraise(t.policy()))
}

// replaced is a machine in whose TPM a key that its maker has was put where the
// paravisor's is kept, so that the claims name it. The quote that the maker
// signs is genuine by the claims, and the TPM opens no credential for the key.
func (t *paravised) replaced() outcome {
	m := verifiertest.Boot(t.tb)
	paravisor := t.start(m)
	paravisor.Replace(t.tb, t.stranger)
	in := t.input(m)
	v, err := new(verifier.Verifier).Verify(paravisor.Forge(t.tb, in, t.stranger), in.Nonce, in.Channel)
	if err != nil {
		return outcome{err: err}
	}
	c, err := v.Challenge(rand.Reader)
	if err != nil {
		t.tb.Fatal(err)
	}
	answer, err := paravisor.Activate(in.Channel, c.CredentialBlob, c.EncryptedSecret)
	if err != nil {
		// The TPM opens none for a name that it does not know.
		answer = attest.Digest{}
	}
	return outcome{err: c.Answered(answer[:], in.Channel)}
}

// onAzureSNP are the attacks on an Azure confidential VM on AMD SEV-SNP.
func onAzureSNP(tb testing.TB) ([]attack, error) {
	w := verifiertest.NewSNP(tb, "Genoa")
	t, err := underParavisor(tb, func(m *verifiertest.Machine) *verifiertest.Azure { return w.OnSNP(tb, m) })
	if err != nil {
		return nil, err
	}
	all := append(t.bound(), t.named()...)
	reported := func(name string, r reason, edit func(*snp.Report)) {
		all = append(all, t.changed(name, r, func(a *verifiertest.Azure) { a.EditSNP = edit }))
	}
	reported("paravisor that is not pinned", onPlatform("measurement"), func(r *snp.Report) { r.Measurement[0]++ })
	reported("guest's own report names its tpm's key", onPlatform("measurement"), func(r *snp.Report) { r.Measurement = [48]byte{0xbb} })
	reported("guest below the pinned paravisor (VMPL 1)", onPlatform("vmpl"), func(r *snp.Report) { r.VMPL = 1 })
	reported("guest below the pinned paravisor (VMPL 2)", onPlatform("vmpl"), func(r *snp.Report) { r.VMPL = 2 })
	reported("paravisor that can be debugged", onPlatform("debug"), func(r *snp.Report) { r.Policy |= snp.PolicyDebug })
	reported("paravisor with a migration agent", onPlatform("migration"), func(r *snp.Report) { r.Policy |= snp.PolicyMigrationAgent })
	reported("paravisor's tcb below the floor", onPlatform("launch tcb"), func(r *snp.Report) { r.LaunchTCB = 0 })
	reported("report data altered", reason{kind: attest.ErrBinding, says: "runtime claims"}, func(r *snp.Report) { r.ReportData[0]++ })
	reported("report data with something behind the hash", reason{kind: attest.ErrBinding, says: "runtime claims"}, func(r *snp.Report) { r.ReportData[63]++ })
	all = append(all,
		t.index("snp's report by the type of tdx", reason{kind: attest.ErrMalformed, says: "tdx"}, azuretest.RequestAt+8, 4),
		t.index("report altered", reason{kind: attest.ErrSignature}, 32+0x140, 9),
		t.under("pinned on the other processor alone", onPlatform("this processor"), func(p *verifier.Policy) {
			p.TDX, p.Azure = verifiertest.NewTDX(tb).Policy(), &verifier.AzurePolicy{TDX: []tdx.Measurement{{0xaa}}}
		}),
		t.under("pinned for guests, not for paravisors", onPlatform("measurement"), func(p *verifier.Policy) {
			p.SNP.AcceptAnyMeasurement, p.SNP.Measurements, p.Azure.SNP = false, [][48]byte{{0xaa}}, [][48]byte{{1}}
		}),
		t.under("AMD's own roots, and a root that a test drew", reason{kind: attest.ErrIdentity}, func(p *verifier.Policy) { p.SNP.Anchors = snp.AMD() }),
	)
	t.machine.Endorsements.RevocationLists = [][]byte{w.Vendor.ARK.List(nil, w.Vendor.ASK.Certificate)}
	bad := judged(t.input(t.machine).Appraise(t.policy()))
	t.machine.Endorsements.RevocationLists = [][]byte{w.Vendor.ARK.List(nil)}
	return append(all, t.refused("revoked authority", reason{kind: attest.ErrRevoked}, bad)), nil
}

// onAzureTDX are the attacks on an Azure confidential VM on Intel TDX.
func onAzureTDX(tb testing.TB) ([]attack, error) {
	x := verifiertest.NewTDX(tb)
	t, err := underParavisor(tb, func(m *verifiertest.Machine) *verifiertest.Azure { return x.OnTDX(tb, m) })
	if err != nil {
		return nil, err
	}
	all := append(t.bound(), t.named()...)
	quoted := func(name string, r reason, edit func(*tdxtest.Draft)) {
		all = append(all, t.changed(name, r, func(a *verifiertest.Azure) { a.EditTDX = edit }))
	}
	quoted("paravisor that is not pinned", onPlatform("mrtd"), func(d *tdxtest.Draft) { d.Report.MRTD[0]++ })
	quoted("guest's own quote names its tpm's key", onPlatform("mrtd"), func(d *tdxtest.Draft) { d.Report.MRTD = tdx.Measurement{0xbb} })
	quoted("paravisor that can be debugged", onPlatform("debug"), func(d *tdxtest.Draft) { d.Report.TDAttributes |= tdx.AttributeDebug })
	quoted("report data altered", reason{kind: attest.ErrBinding, says: "runtime claims"}, func(d *tdxtest.Draft) { d.Report.ReportData[0]++ })
	other := azuretest.ReportData(t.claims, azuretest.SHA256)
	all = append(all,
		t.refused("certificates beside a quote that has its own", onMalformed("certificates"), t.besideQuote(verifiertest.NewSNP(tb, "Genoa").Key.Table())),
		t.index("quote of another td", reason{kind: attest.ErrBinding, says: "not of the report"}, 32+528, 9),
		t.index("tdx's report by the type of snp", reason{kind: attest.ErrMalformed, says: "behind its claims"}, azuretest.RequestAt+8, 2),
		t.changed("report of tdx with a quote left out", reason{kind: attest.ErrMalformed, says: "no quote"}, func(a *verifiertest.Azure) {
			a.EditIndex = func(b []byte) []byte { return b[:azuretest.RequestAt+20+len(t.claims)] }
		}),
		t.changed("quote of a stranger's platform", reason{kind: attest.ErrIdentity}, func(a *verifiertest.Azure) {
			a.EditIndex = func(b []byte) []byte {
				return append(b[:azuretest.RequestAt+20+len(t.claims)], verifiertest.NewTDX(tb).Quote(other, nil)...)
			}
		}),
		t.under("pinned on the other processor alone", onPlatform("this processor"), func(p *verifier.Policy) {
			p.SNP, p.Azure = verifiertest.NewSNP(tb, "Genoa").Policy(), &verifier.AzurePolicy{SNP: [][48]byte{x.Report.MRTD}}
		}),
		t.under("pinned for guests, not for paravisors", onPlatform("mrtd"), func(p *verifier.Policy) {
			p.TDX.MRTD = verifier.TDXMeasurements{Accepted: []tdx.Measurement{x.Report.MRTD}}
			p.Azure.TDX = []tdx.Measurement{{1}}
		}),
		t.under("rating that the policy does not accept", onPlatform("rates"), func(p *verifier.Policy) { p.TDX.Statuses = []tdx.Status{tdx.OutOfDate} }),
	)
	return all, nil
}
