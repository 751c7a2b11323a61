package verifier

import (
	"crypto"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// AzurePolicy is which paravisors of Azure's confidential VMs a verifier
// accepts: the code that runs the TPM, inside of what the processor keeps the
// host out of. Of the processor, SNP and TDX of the policy say what is accepted,
// whatever they say of launch measurements and MRTD.
type AzurePolicy struct {
	// SNP are launch measurements on AMD SEV-SNP, TDX are MRTDs on Intel TDX.
	// A processor without any is refused; at least one in all.
	SNP [][48]byte
	TDX []tdx.Measurement
}

// check fails closed.
func (p *AzurePolicy) check(whole *Policy) error {
	switch {
	case len(p.SNP) == 0 && len(p.TDX) == 0:
		return fmt.Errorf("%w: azure: no paravisor is pinned", attest.ErrPolicy)
	case len(p.SNP) > 0 && whole.SNP == nil:
		return fmt.Errorf("%w: azure: paravisors on snp are pinned, and snp is not accepted", attest.ErrPolicy)
	case len(p.TDX) > 0 && whole.TDX == nil:
		return fmt.Errorf("%w: azure: paravisors on tdx are pinned, and tdx is not accepted", attest.ErrPolicy)
	}
	return nil
}

// azureReport is what a paravisor left in its TPM: a processor's report whose
// data is the hash of claims that name the TPM's keys. The data is as old as the
// boot; that it belongs to this evidence, the key that signs the quote says,
// and the quote, which names the report.
type azureReport struct {
	parsed *azure.Report
	// hardware is the processor's report by itself.
	hardware report
}

var (
	_ report   = azureReport{}
	_ endorser = azureReport{}
)

func parseAzure(r evidence.Report) (azureReport, error) {
	parsed, err := azure.Parse(r.Report)
	switch {
	case err != nil:
		return azureReport{}, err
	case parsed.EK == nil:
		return azureReport{}, fmt.Errorf("%w: azure's claims name no endorsement key, so that nothing could show in which tpm the attestation key lives", attest.ErrIdentity)
	case parsed.SNP != nil:
		return azureReport{parsed, snpReport{report: parsed.SNP, table: r.Certificates}}, nil
	case len(r.Certificates) > 0:
		return azureReport{}, fmt.Errorf("%w: a TDX quote carries its own certificates, and others are beside it", attest.ErrMalformed)
	}
	return azureReport{parsed, tdxReport{quote: parsed.TDX}}, nil
}

func (r azureReport) name() string { return r.hardware.name() + " under Azure's paravisor" }

func (r azureReport) names(ak *tpm.AK, _ [64]byte) bool { return ak.Is(r.parsed.AK) }

func (r azureReport) endorsementKey() crypto.PublicKey { return r.parsed.EK }

func (r azureReport) appraise(e *endorsed, p *Policy) (platform, error) {
	pinned, err := p.PinningParavisors(r.parsed)
	if err != nil {
		return platform{}, err
	}
	judged, err := r.hardware.appraise(e, &pinned)
	judged.vouched, judged.needsActivation = attest.TierHardware, true
	judged.because = "the hardware report shows the pinned paravisor, in whose tpm the attestation key lives"
	// What the TPM keeps across boots lies with the cloud, sealed: it can be put
	// back to what it was.
	judged.keeps = attest.TierProviderRooted
	return judged, err
}

// PinningParavisors is the policy with nothing but the pinned paravisors
// accepted on the processor of the report. The error is attest.ErrPlatform
// where none is pinned for it.
func (p Policy) PinningParavisors(r *azure.Report) (Policy, error) {
	switch {
	case p.Azure == nil:
		return Policy{}, fmt.Errorf("%w: the policy pins no paravisor: whoever writes the claims could name any key", attest.ErrPlatform)
	case r.SNP != nil && len(p.Azure.SNP) > 0:
		snp := *p.SNP
		snp.Measurements, snp.AcceptAnyMeasurement, snp.MeasuredBoot = p.Azure.SNP, false, false
		p.SNP = &snp
	case r.TDX != nil && len(p.Azure.TDX) > 0:
		tdx := *p.TDX
		tdx.MRTD = TDXMeasurements{Accepted: p.Azure.TDX}
		p.TDX = &tdx
	default:
		return Policy{}, fmt.Errorf("%w: the policy pins no paravisor for this processor", attest.ErrPlatform)
	}
	return p, nil
}
