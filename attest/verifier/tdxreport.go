package verifier

import (
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// tdxReport is an Intel TDX quote.
type tdxReport struct{ quote *tdx.Quote }

var _ report = tdxReport{}

func parseTDX(r evidence.Report) (tdxReport, error) {
	if len(r.Certificates) > 0 {
		return tdxReport{}, fmt.Errorf("%w: a TDX quote carries its own certificates, and others are beside it", attest.ErrMalformed)
	}
	quote, err := tdx.Parse(r.Report)
	return tdxReport{quote}, err
}

func (tdxReport) name() string { return "Intel TDX" }

func (r tdxReport) names(_ *tpm.AK, data [64]byte) bool { return r.quote.Report.ReportData == data }

func (r tdxReport) appraise(e *endorsed, p *Policy) (platform, error) {
	if p.TDX == nil {
		return platform{}, fmt.Errorf("%w: the policy does not say which such machines are accepted", attest.ErrPlatform)
	}
	endorsement, err := e.tdxEndorsement(r.quote.PCKChain, p)
	if err != nil {
		return platform{}, err
	}
	rating, err := endorsement.Check(r.quote)
	if err != nil {
		return platform{}, err
	}
	judged, err := p.TDX.Appraise(&r.quote.Report, endorsement, rating, p.Now)
	if err != nil {
		return platform{}, err
	}
	shown := platform{refusals: judged.Refusals, warnings: judged.Warnings, shown: strings.Join(judged.Shown, ", "), encrypted: true}
	if p.TDX.pinsImage() {
		shown.vouched, shown.because = attest.TierHardware, showsImage
	}
	return shown, nil
}

// pinsImage reports whether firmware, tables, loader and image are all of
// accepted values: MRTD is the firmware, RTMR 0 its configuration and the host's
// ACPI tables, whose code the guest's kernel runs, RTMR 1 the loader and the
// UKI, RTMR 2 the command line and the initrd (UEFI 2.10, section 38.4.1).
func (p *TDXPolicy) pinsImage() bool {
	return !p.MRTD.Any && !p.RTMR[0].Any && !p.RTMR[1].Any && !p.RTMR[2].Any
}

// tdxEndorsement is Intel's word for the platform with these certificates, by
// the collateral at hand. Errors are tdx.VerifyEndorsement's.
func (e *endorsed) tdxEndorsement(pckChain []byte, p *Policy) (*tdx.Endorsement, error) {
	if e.tdx == nil {
		return nil, fmt.Errorf("%w: no collateral of Intel's came with the quote", attest.ErrCollateral)
	}
	terms, err := p.TDX.Terms(p.Now)
	if err != nil {
		return nil, err
	}
	terms.Lists = p.RevocationLists
	find := func([]byte) (*tdx.Endorsement, error) { return tdx.VerifyEndorsement(pckChain, e.tdx, terms) }
	if len(p.RevocationLists) > 0 {
		// A policy's own lists are no part of what is kept.
		return find(nil)
	}
	found, err := e.tdxEndorsements.Get(tdxKey(pckChain, terms), find)
	if err != nil || found.Valid.Contains(p.Now) {
		return found, err
	}
	return find(nil)
}

// tdxKey names what a platform's endorsement depends on, but for the
// collateral and the time.
func tdxKey(pckChain []byte, terms tdx.Terms) []byte {
	k := newKey(len(pckChain) + 2048)
	k.number(uint64(terms.Grace))
	k.certificates(terms.Roots)
	k.bytes(pckChain)
	return k
}
