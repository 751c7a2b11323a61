package foreign

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/azure"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// Paravisor is what an Azure confidential VM shows beside its TPM's quote.
type Paravisor struct {
	// Index is the content of NV index azure.Index.
	Index []byte
	// Certificates and Lists are for a report of AMD SEV-SNP.
	Certificates snp.Certificates
	Lists        []*chain.List
	// Quote is of the TD's report in the index, and Collateral rates its
	// platform, on Intel TDX. Collateral may be nil.
	Quote      []byte
	Collateral *tdx.Collateral
}

// Azure checks a quote of an Azure confidential VM's TPM: that the key which
// signed it is the one that the claims in the index name, and that the
// processor's report is genuine and vouches for the claims. What is asked for
// is the quote's extra data. A policy judges the processor and the paravisor.
// Errors are TPM's, SNP's, TDX's and package azure's.
func Azure(q Quote, p Paravisor, a Asked) (*Result, error) {
	report, err := p.parse()
	if err != nil {
		return nil, err
	}
	r, ak, err := genuine("azure-quote", q, a)
	if err != nil {
		return nil, err
	}
	if err := r.named(ak, report); err != nil {
		return nil, err
	}
	pinned, unpinned := a.forParavisors(report)
	if err := r.hardware(report, p, pinned); err != nil {
		return nil, err
	}
	if unpinned != nil {
		r.Policy, r.Refusals = Refused, append([]string{unpinned.Error()}, r.Refusals...)
	}
	if a.Policy == nil {
		r.warn("which paravisor it is was not looked at: any guest can name a key in a report of its own")
	}
	r.warn("whether the key lives in the paravisor's tpm was not looked at: an earlier boot can have put another in its place, and only an activation tells")
	return r, nil
}

func (p Paravisor) parse() (*azure.Report, error) {
	index := p.Index
	if p.Quote != nil {
		joined, err := azure.WithQuote(index, p.Quote)
		if err != nil {
			return nil, err
		}
		index = joined
	}
	report, err := azure.Parse(index)
	switch {
	case err != nil:
		return nil, err
	case report.SNP != nil && p.Collateral != nil:
		return nil, fmt.Errorf("%w: collateral of intel's says nothing of an AMD SEV-SNP report", attest.ErrMalformed)
	case report.TDX != nil && len(p.Certificates)+len(p.Lists) > 0:
		return nil, fmt.Errorf("%w: certificates and lists of amd's say nothing of an Intel TDX quote", attest.ErrMalformed)
	}
	return report, nil
}

// named holds the key that signed against the claims.
func (r *Result) named(ak *tpm.AK, report *azure.Report) error {
	if !ak.Is(report.AK) {
		return fmt.Errorf("%w: azure's claims name another key than the one that signed the quote", attest.ErrBinding)
	}
	r.verified("claims in the tpm's index name the key that signed the quote")
	r.verified("the report's data is the hash of these claims")
	r.fact("user_data", "%x", report.UserData)
	if report.EK == nil {
		r.warn("the claims name no endorsement key: the paravisor is too old for its key to be activated")
		return nil
	}
	ek, err := tpm.EKWithoutCertificate(report.EK)
	if err != nil {
		return err
	}
	r.fact("ek", "%s", ek.ID)
	return nil
}

// forParavisors has the policy accept its pinned paravisors alone. Where it
// pins none the error says so, and what is genuine is found by the policy's
// roots all the same.
func (a Asked) forParavisors(report *azure.Report) (Asked, error) {
	if a.Policy == nil {
		return a, nil
	}
	pinned, err := a.Policy.Verifier.PinningParavisors(report)
	if err != nil {
		return a, err
	}
	whole := *a.Policy
	whole.Verifier, a.Policy = pinned, &whole
	return a, nil
}

func (r *Result) hardware(report *azure.Report, p Paravisor, a Asked) error {
	if report.TDX != nil {
		return r.tdxGenuine(report.TDX, p.Collateral, a)
	}
	e, err := r.snpGenuine(report.SNP, p.Certificates, p.Lists, a)
	if err != nil {
		return err
	}
	return r.snpPolicy(report.SNP, e, a)
}
