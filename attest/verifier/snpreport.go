package verifier

import (
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// snpReport is an AMD SEV-SNP attestation report with the certificates that
// the host handed out beside it.
type snpReport struct {
	report *snp.Report
	// table is the certificate table as it came; empty where the host has none.
	table []byte
}

var _ report = snpReport{}

func parseSNP(r evidence.Report) (snpReport, error) {
	parsed, err := snp.Parse(r.Report)
	return snpReport{report: parsed, table: r.Certificates}, err
}

func (snpReport) name() string { return "AMD SEV-SNP" }

func (r snpReport) names(_ *tpm.AK, data [64]byte) bool { return r.report.ReportData == data }

func (r snpReport) appraise(e *endorsed, p *Policy) (platform, error) {
	if p.SNP == nil {
		return platform{}, fmt.Errorf("%w: the policy does not say which such machines are accepted", attest.ErrPlatform)
	}
	endorsement, err := e.snpEndorsement(r, p)
	if err != nil {
		return platform{}, err
	}
	// Whether a masked chip is fine the policy says, and AppraiseSNP asks it.
	if err := endorsement.CheckWhateverTheChip(r.report); err != nil {
		return platform{}, err
	}
	judged, err := AppraiseSNP(r.report, endorsement, *p.SNP, p.Now)
	if err != nil {
		return platform{}, err
	}
	shown := platform{encrypted: true}
	if p.SNP.MeasuredBoot {
		shown.vouched, shown.because = attest.TierHardware, showsImage
		judged.Warnings = append(judged.Warnings, "the launch measurement covers no acpi tables: the host's run in the guest's kernel")
	}
	shown.refusals, shown.warnings, shown.shown = judged.Refusals, judged.Warnings, strings.Join(judged.Shown, ", ")
	return shown, nil
}

// snpEndorsement is AMD's word for the key that signed the report, by the
// certificates that came with it, or those beside all evidence. Errors are
// snp.VerifyEndorsement's.
func (e *endorsed) snpEndorsement(r snpReport, p *Policy) (*snp.Endorsement, error) {
	find := func([]byte) (*snp.Endorsement, error) {
		given := snp.Certificates(e.reportCertificates)
		if len(r.table) > 0 {
			var err error
			if given, err = snp.ParseTable(r.table); err != nil {
				return nil, err
			}
		}
		leaf, authorities, err := given.Leaf(r.report.Signer)
		if err != nil {
			return nil, err
		}
		return snp.VerifyEndorsement(leaf, authorities, p.SNP.Anchors, p.revocations(p.SNP.Revocation, e.lists), p.Now)
	}
	if len(p.RevocationLists) > 0 {
		// A policy's own lists are no part of what is kept.
		return find(nil)
	}
	found, err := e.snpEndorsements.Get(snpKey(r, p), find)
	if err != nil || found.Freshness.Valid.Contains(p.Now) {
		return found, err
	}
	return find(nil)
}

// snpKey names what an endorsement depends on, but for what comes with all
// evidence and the time.
func snpKey(r snpReport, p *Policy) []byte {
	k := newKey(len(r.table) + 4096)
	k.number(uint64(r.report.Signer), uint64(p.SNP.Revocation), uint64(p.Grace), uint64(len(p.SNP.Anchors)))
	for _, anchor := range p.SNP.Anchors {
		k.bytes([]byte(anchor.Product))
		k.number(uint64(anchor.Layout))
		k.bytes(anchor.Root.Raw)
		k.certificates(anchor.Authorities)
	}
	k.bytes(r.table)
	return k
}
