package foreign

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// SNPCertificates reads files of certificates as they come with a report: in
// PEM or in DER, one or several each, or a certificate table. Errors are
// attest.ErrMalformed.
func SNPCertificates(files ...[]byte) (all snp.Certificates, err error) {
	for _, b := range files {
		read := snp.ParseTable
		// A certificate in DER is a SEQUENCE of more than 255 bytes.
		if pem := bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")); pem || bytes.HasPrefix(b, []byte{0x30, 0x82}) {
			read = snp.ParseCertificates
		}
		some, err := read(b)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// RevocationLists reads files of one list each, in PEM or DER. Errors are
// attest.ErrMalformed.
func RevocationLists(files ...[]byte) (all []*chain.List, err error) {
	for i, b := range files {
		if block, rest := pem.Decode(b); block != nil && len(bytes.TrimSpace(rest)) == 0 {
			b = block.Bytes
		}
		list, err := chain.ParseList(fmt.Sprintf("revocation list %d", i+1), b)
		if err != nil {
			return nil, err
		}
		all = append(all, list)
	}
	return all, nil
}

// SNP checks an AMD SEV-SNP report by certificates, of which AMD's own
// authorities may be missing, and revocation lists. Errors are those of package
// snp and attest.ErrBinding.
func SNP(raw []byte, given snp.Certificates, lists []*chain.List, a Asked) (*Result, error) {
	report, err := snp.Parse(raw)
	if err != nil {
		return nil, err
	}
	r := &Result{Kind: "snp-report", At: a.At, Policy: NotAsked}
	e, err := r.snpGenuine(report, given, lists, a)
	if err != nil {
		return nil, err
	}
	if err := r.compare("report_data", report.ReportData[:], a.Data); err != nil {
		return nil, err
	}
	return r, r.snpPolicy(report, e, a)
}

// snpGenuine checks a report's certificates and signature.
func (r *Result) snpGenuine(report *snp.Report, given snp.Certificates, lists []*chain.List, a Asked) (*snp.Endorsement, error) {
	leaf, authorities, err := given.Leaf(report.Signer)
	if err != nil {
		return nil, err
	}
	anchors, revocations := r.snpTrust(lists, a)
	e, err := snp.VerifyEndorsement(leaf, authorities, anchors, revocations, a.At)
	if err != nil {
		return nil, err
	}
	r.verified("certificate of the %s leads to the %s root", e.Kind, e.Product)
	if e.Freshness.Lists > 0 {
		r.verified("%d revocation lists name none of the path", e.Freshness.Lists)
	}
	if err := e.CheckWhateverTheChip(report); err != nil {
		return nil, err
	}
	r.verified("report is signed by that key, whose level it reports")
	if e.Kind == snp.VCEK && !report.ChipMasked() {
		r.verified("report is of the chip that the key is of")
	}
	r.snpFacts(report, e)
	return e, nil
}

// snpTrust is the policy's, or AMD's own roots and whatever lists were given.
func (r *Result) snpTrust(lists []*chain.List, a Asked) ([]snp.Anchor, chain.Revocations) {
	if a.Policy != nil && a.Policy.Verifier.SNP != nil {
		p := a.Policy.Verifier
		return p.SNP.Anchors, chain.Revocations{Treatment: p.SNP.Revocation, Lists: append(lists, p.RevocationLists...), Grace: p.Grace}
	}
	treatment := chain.RequiredOfRoot
	if len(lists) == 0 {
		treatment = chain.NotPublished
		r.warn("whether a certificate was revoked was not looked at: no revocation list was given")
	}
	return snp.AMD(), chain.Revocations{Treatment: treatment, Lists: lists}
}

func (r *Result) snpFacts(report *snp.Report, e *snp.Endorsement) {
	r.fact("version", "%d", report.Version)
	r.fact("product", "%s", e.Product)
	r.fact("signer", "%s", e.Kind)
	if e.CSP != "" {
		r.fact("provider", "%q", e.CSP)
	}
	r.fact("tcb", "%s", e.TCB)
	r.fact("firmware", "%d.%d.%d", report.Current.Major, report.Current.Minor, report.Current.Build)
	r.fact("chip_id", "%x", report.ChipID)
	r.fact("vmpl", "%d", report.VMPL)
	r.fact("guest_policy", "%s", report.Policy)
	r.fact("platform", "%s", report.PlatformInfo)
	r.fact("measurement", "%x", report.Measurement)
	r.fact("host_data", "%x", report.HostData)
	r.fact("guest_svn", "%d", report.GuestSVN)
	r.fact("id_key_digest", "%x", report.IDKeyDigest)
	r.fact("author_key_digest", "%x", report.AuthorKeyDigest)
}

func (r *Result) snpPolicy(report *snp.Report, e *snp.Endorsement, a Asked) error {
	if a.Policy == nil {
		r.warnOfSNP(report, e)
		return nil
	}
	if a.Policy.Verifier.SNP == nil {
		r.judged([]string{"the policy refuses AMD SEV-SNP"}, nil)
		return nil
	}
	found, err := verifier.AppraiseSNP(report, e, *a.Policy.Verifier.SNP, a.At)
	r.judged(found.Refusals, found.Warnings)
	return err
}

// warnOfSNP says aloud what every policy would refuse, and what is not shown.
func (r *Result) warnOfSNP(report *snp.Report, e *snp.Endorsement) {
	switch {
	case e.Kind == snp.VLEK:
		r.warn("signed with a key of the provider %q (VLEK): amd vouches for a chip at this tcb, not for which", e.CSP)
	case report.ChipMasked():
		r.warn("the host masks which chip it is")
	}
	if report.Policy&snp.PolicyDebug != 0 {
		r.warn("the host can debug the guest: nothing is kept from it")
	}
	if report.Policy&snp.PolicyMigrationAgent != 0 {
		r.warn("a migration agent can move the guest")
	}
	if report.VMPL != 0 {
		r.warn("asked for at vmpl %d, below what runs the guest", report.VMPL)
	}
}

// date is a day, as results show it.
func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }
