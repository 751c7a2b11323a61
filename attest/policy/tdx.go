package policy

import (
	"math"
	"time"

	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

var tdxStatuses = []named[tdx.Status]{
	{"UpToDate", tdx.UpToDate}, {"SWHardeningNeeded", tdx.SWHardeningNeeded}, {"ConfigurationNeeded", tdx.ConfigurationNeeded},
	{"ConfigurationAndSWHardeningNeeded", tdx.ConfigurationAndSWHardeningNeeded}, {"OutOfDate", tdx.OutOfDate},
	{"OutOfDateConfigurationNeeded", tdx.OutOfDateConfigurationNeeded},
}

// tdxAttributes are those that a policy can speak of: debug is never accepted.
var tdxAttributes = []named[uint64]{
	{"sept-ve-disable", tdx.AttributeSEPTVEDisable}, {"migratable", tdx.AttributeMigratable},
	{"pks", tdx.AttributePKS}, {"perfmon", tdx.AttributePerfmon},
}

func (v value) tdx(grace time.Duration) *verifier.TDXPolicy {
	if v.is(refused) {
		return nil
	}
	o := v.object()
	p := &verifier.TDXPolicy{
		Roots: o.get("roots").builtinOr(intelRoots), Grace: &grace,
		MinimumEvaluation: uint32(o.get("minimum_evaluation").number(math.MaxUint32)),
		MRSEAM:            o.get("mrseam").tdxMeasurements(),
		MRTD:              o.get("mrtd").tdxMeasurements(),
		Owner:             o.get("owner").tdxMeasurements(),
		ServiceTD:         o.get("service_td").tdxMeasurements(),
	}
	for _, entry := range o.get("statuses").list(1, len(tdxStatuses)) {
		p.Statuses = append(p.Statuses, word(entry, tdxStatuses))
	}
	for i, name := range []string{"rtmr0", "rtmr1", "rtmr2", "rtmr3"} {
		p.RTMR[i] = o.get(name).tdxMeasurements()
	}
	attributes := o.get("attributes").object()
	p.Attributes = &verifier.TDXBits{Allowed: bits(attributes.get("allowed"), tdxAttributes), Required: bits(attributes.get("required"), tdxAttributes)}
	attributes.end()
	xfam := o.get("xfam").object()
	p.XFAM = &verifier.TDXBits{Allowed: xfam.get("allowed").number(math.MaxUint64), Required: xfam.get("required").number(math.MaxUint64)}
	xfam.end()
	o.end()
	return p
}

func (v value) tdxMeasurements() (m verifier.TDXMeasurements) {
	any, all := v.measurements()
	m.Any = any
	for _, accepted := range all {
		m.Accepted = append(m.Accepted, tdx.Measurement(accepted))
	}
	return m
}
