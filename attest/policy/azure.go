package policy

import (
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// azure is which paravisors run a TPM that is believed, by the measurement of
// each on each processor. There is no word for any: a report that anybody's
// code asked for names any key.
func (v value) azure() *verifier.AzurePolicy {
	if v.is(refused) {
		return nil
	}
	o := v.object()
	p := &verifier.AzurePolicy{SNP: o.get("snp_measurements").paravisors()}
	for _, mrtd := range o.get("tdx_mrtds").paravisors() {
		p.TDX = append(p.TDX, tdx.Measurement(mrtd))
	}
	o.end()
	return p
}

func (v value) paravisors() [][48]byte {
	if v.is(refused) {
		return nil
	}
	return v.digests()
}
