package main

import (
	"crypto/x509"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// unknownAuthority is why a path that leads elsewhere is refused.
var unknownAuthority = reason{kind: attest.ErrIdentity, says: "unknown authority"}

func onPlatform(says string) reason   { return reason{kind: attest.ErrPlatform, says: says} }
func onIdentity(says string) reason   { return reason{kind: attest.ErrIdentity, says: says} }
func onBinding(says string) reason    { return reason{kind: attest.ErrBinding, says: says} }
func onMalformed(says string) reason  { return reason{kind: attest.ErrMalformed, says: says} }
func onCollateral(says string) reason { return reason{kind: attest.ErrCollateral, says: says} }

// forger changes what a processor has signed. The quote names what it makes of
// it.
type forger struct {
	attester.Reporter
	change func(*evidence.Report)
}

func (f forger) Report(data [64]byte) (evidence.Report, error) {
	r, err := f.Reporter.Report(data)
	if err == nil {
		f.change(&r)
	}
	return r, err
}

func (t *target) forged(name string, r reason, change func(*evidence.Report)) attack {
	own := t.machine.Reporters
	t.machine.Reporters = []attester.Reporter{forger{own[0], change}}
	bad := judged(t.input(t.machine).Appraise(t.policy()))
	t.machine.Reporters = own
	return t.refused(name, r, bad)
}

// snpReports are reports that are signed all the same.
var snpReports = []struct {
	name   string
	reason reason
	edit   func(*snp.Report)
}{
	{"report about another key", onBinding("another key"), func(r *snp.Report) { r.ReportData[0]++ }},
	{"report of an unknown version", onMalformed("version"), func(r *snp.Report) { r.Version = 6 }},
	{"launch TCB below the floor", onPlatform("launch tcb"), func(r *snp.Report) { r.LaunchTCB = 0 }},
	{"current TCB below the floor", onPlatform("current tcb"), func(r *snp.Report) { r.CurrentTCB = 0 }},
	{"committed firmware below the minimum", onPlatform("committed firmware"), func(r *snp.Report) { r.Committed.Minor = 0 }},
	{"guest that may use CXL", onPlatform("permits"), func(r *snp.Report) { r.Policy |= snp.PolicyCXL }},
}

// snpPolicies ask for more than the machine shows.
var snpPolicies = []struct {
	name   string
	reason reason
	change func(*verifier.SNPPolicy)
}{
	{"guest policy that does not demand enough", onPlatform("does not demand"), func(p *verifier.SNPPolicy) { *p.Required = snp.PolicySingleSocket }},
	{"guest with SMT", onPlatform("permits"), func(p *verifier.SNPPolicy) { *p.Permitted = 0 }},
	{"host without the check for memory aliases", onPlatform("platform is without"), func(p *verifier.SNPPolicy) { *p.Platform = snp.PlatformAliasCheckOK }},
}

// tdxQuotes are quotes that are signed all the same.
var tdxQuotes = []struct {
	name   string
	reason reason
	edit   func(*tdxtest.Draft)
}{
	{"quote about another key", onBinding("another key"), func(d *tdxtest.Draft) { d.Report.ReportData[0]++ }},
	{"quote of an unknown version", onMalformed("version"), func(d *tdxtest.Draft) { d.Version = 6 }},
	{"module that is too old", onIdentity("module"), func(d *tdxtest.Draft) { d.Report.TEETCBSVN[0] = 1 }},
	{"module that can be debugged", onIdentity("module"), func(d *tdxtest.Draft) { d.Report.SEAMAttributes[0] = 1 }},
	{"microcode that is too old", onIdentity("tcb level"), func(d *tdxtest.Draft) { d.Report.TEETCBSVN[2] = 4 }},
	{"quoting enclave that is another program", onIdentity("isvprodid"), func(d *tdxtest.Draft) { d.QE.ISVPRODID++ }},
	{"quoting enclave that is too old", onIdentity("quoting enclave"), func(d *tdxtest.Draft) { d.QE.ISVSVN = 3 }},
	{"quoting enclave that can be debugged", onIdentity("attributes"), func(d *tdxtest.Draft) { d.QE.Attributes[0] |= 2 }},
}

// tdxPolicies ask for another TD than the machine is.
var tdxPolicies = []struct {
	name   string
	reason reason
	change func(*verifier.TDXPolicy)
}{
	{"td attribute that is wanted", onPlatform("lack"), func(p *verifier.TDXPolicy) { p.Attributes.Required = tdx.AttributePKS }},
	{"processor state that is not allowed", onPlatform("xfam"), func(p *verifier.TDXPolicy) { p.XFAM.Allowed = 3 }},
	{"another build of the module", onPlatform("mrseam"), func(p *verifier.TDXPolicy) { p.MRSEAM = onlyOther }},
	{"another configuration of the firmware's (RTMR 0)", onPlatform("rtmr0"), func(p *verifier.TDXPolicy) { p.RTMR[0] = onlyOther }},
	{"another loader (RTMR 1)", onPlatform("rtmr1"), func(p *verifier.TDXPolicy) { p.RTMR[1] = onlyOther }},
	{"another measurement of the image's own (RTMR 3)", onPlatform("rtmr3"), func(p *verifier.TDXPolicy) { p.RTMR[3] = onlyOther }},
	{"another owner's td", onPlatform("mrowner"), func(p *verifier.TDXPolicy) { p.Owner = onlyOther }},
	{"another service td", onPlatform("mrservicetd"), func(p *verifier.TDXPolicy) { p.ServiceTD = onlyOther }},
}

// onlyOther is a measurement that no machine here has.
var onlyOther = verifier.TDXMeasurements{Accepted: []tdx.Measurement{{1}}}

// longAgo is past the next update and the grace.
func longAgo(w *tdx.Window) {
	w.IssueDate, w.NextUpdate = time.Now().AddDate(0, 0, -130), time.Now().AddDate(0, 0, -100)
}

// tdxCollateral is what Intel says of a platform, signed all the same.
var tdxCollateral = []struct {
	name   string
	reason reason
	change func(*tdxtest.Platform)
}{
	{"revoked platform", reason{kind: attest.ErrRevoked, says: "PCK Certificate"}, func(p *tdxtest.Platform) { p.RevokePCK = true }},
	{"revoked authority", reason{kind: attest.ErrRevoked, says: "Platform CA"}, func(p *tdxtest.Platform) { p.RevokeCA = true }},
	{"revoked signer of the collateral", reason{kind: attest.ErrRevoked, says: "TCB Signing"}, func(p *tdxtest.Platform) { p.RevokeSigning = true }},
	{"collateral stale past its grace", onCollateral("tcb info"), func(p *tdxtest.Platform) { longAgo(&p.TCBInfo.Window) }},
	{"identity of the enclave stale past its grace", onCollateral("identity"), func(p *tdxtest.Platform) { longAgo(&p.QEIdentity.Window) }},
	{"revocation list stale past its grace", onCollateral("revocation list"), func(p *tdxtest.Platform) {
		p.EditList = func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = time.Now().AddDate(0, 0, -130), time.Now().AddDate(0, 0, -100)
		}
	}},
	{"collateral of another platform", onCollateral("fmspc"), func(p *tdxtest.Platform) { p.TCBInfo.FMSPC[0]++ }},
	{"platform that is too old", onPlatform("rates"), func(p *tdxtest.Platform) { p.TCBInfo.Levels[0].Status = tdx.OutOfDate }},
}

// nitroDocuments are documents that are signed all the same.
var nitroDocuments = []struct {
	name   string
	reason reason
	edit   func(*nitrotest.Draft)
}{
	{"document about another key", onBinding("another key"), func(d *nitrotest.Draft) { d.Fields["user_data"] = make([]byte, 64) }},
	{"document of an enclave", onIdentity("enclave"), func(d *nitrotest.Draft) {
		d.Fields["pcrs"] = d.Fields["nitrotpm_pcrs"]
		delete(d.Fields, "nitrotpm_pcrs")
	}},
	{"document by another algorithm", onMalformed("protected header"), func(d *nitrotest.Draft) { d.Protected = []byte{0xa1, 0x01, 0x26} }},
	{"document without registers", onMalformed("0 registers"), func(d *nitrotest.Draft) { d.Fields["nitrotpm_pcrs"] = map[int][]byte{} }},
}
