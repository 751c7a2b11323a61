package verifier

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// TDXPolicy is which TDX machines a verifier accepts. Every field must be set;
// where all is accepted the policy says so.
type TDXPolicy struct {
	// Roots are the pinned roots, as a rule tdx.IntelRoots. At least one.
	Roots []*x509.Certificate
	// Grace is how long collateral is used past its next update, zero to
	// chain.MaxGrace; the appraisal warns of each use.
	Grace *time.Duration
	// Statuses are the accepted ratings of the platform. At least one.
	Statuses []tdx.Status
	// MinimumEvaluation is the least tcbEvaluationDataNumber of the
	// collateral, from one.
	MinimumEvaluation uint32
	// Attributes and XFAM are the accepted attributes and processor state of
	// the TD. Attributes can't allow what puts a TD off trust, such as debug.
	Attributes *TDXBits
	XFAM       *TDXBits
	// MRSEAM is which builds of Intel's TDX module are accepted; the module is
	// genuine and rated in any case.
	MRSEAM TDXMeasurements
	// MRTD is which initial memory, the firmware, is accepted, and RTMR which
	// values of the four registers.
	MRTD TDXMeasurements
	RTMR [4]TDXMeasurements
	// Owner is which of the host's three values (MRCONFIGID, MROWNER,
	// MROWNERCONFIG) are accepted, each of them.
	Owner TDXMeasurements
	// ServiceTD is which bound service TDs are accepted; zero is none of them.
	ServiceTD TDXMeasurements
}

// TDXBits are what a set of bits may and must have.
type TDXBits struct{ Allowed, Required uint64 }

// TDXMeasurements are the accepted values of a register: those given, or any.
type TDXMeasurements struct {
	Any      bool
	Accepted []tdx.Measurement
}

func (m TDXMeasurements) accepts(got tdx.Measurement) bool {
	return m.Any || slices.Contains(m.Accepted, got)
}

// Terms are what an endorsement is verified against under this policy. The
// error is attest.ErrPolicy.
func (p *TDXPolicy) Terms(at time.Time) (tdx.Terms, error) {
	if err := p.check(); err != nil {
		return tdx.Terms{}, err
	}
	return tdx.Terms{Roots: p.Roots, Grace: *p.Grace, At: at}, nil
}

// check fails closed.
func (p *TDXPolicy) check() error {
	switch {
	case len(p.Roots) == 0 || slices.Contains(p.Roots, nil):
		return tdxUnset("no root")
	case p.Grace == nil || *p.Grace < 0 || *p.Grace > chain.MaxGrace:
		return tdxUnset("no grace of zero to %s", chain.MaxGrace)
	case len(p.Statuses) == 0 || slices.Contains(p.Statuses, tdx.StatusUnset):
		return tdxUnset("no accepted status")
	case p.MinimumEvaluation == 0:
		return tdxUnset("no minimum evaluation data number")
	case p.Attributes == nil || p.XFAM == nil:
		return tdxUnset("no attributes or no xfam")
	case p.Attributes.Allowed&tdx.AttributesUntrusted != 0:
		return tdxUnset("attributes allow debug or another of its group")
	}
	for _, bits := range []*TDXBits{p.Attributes, p.XFAM} {
		if bits.Required&^bits.Allowed != 0 {
			return tdxUnset("bits %#x are required and not allowed", bits.Required&^bits.Allowed)
		}
	}
	return p.checkMeasurements()
}

func (p *TDXPolicy) checkMeasurements() error {
	for name, m := range map[string]TDXMeasurements{
		"mrseam": p.MRSEAM, "mrtd": p.MRTD, "rtmr0": p.RTMR[0], "rtmr1": p.RTMR[1], "rtmr2": p.RTMR[2],
		"rtmr3": p.RTMR[3], "owner": p.Owner, "service td": p.ServiceTD,
	} {
		if m.Any == (len(m.Accepted) > 0) {
			return tdxUnset("%s is neither any nor of accepted values", name)
		}
	}
	return nil
}

func tdxUnset(format string, args ...any) error {
	return fmt.Errorf("%w: tdx: %s", attest.ErrPolicy, fmt.Sprintf(format, args...))
}

func (j *ReportResult) refuse(when bool, format string, args ...any) {
	if when {
		j.Refusals = append(j.Refusals, fmt.Sprintf(format, args...))
	}
}

// Appraise judges a quote that its endorsement has checked and rated. It says
// nothing of what the report data binds. The error is attest.ErrPolicy.
func (p *TDXPolicy) Appraise(r *tdx.Report, e *tdx.Endorsement, rating *tdx.Rating, at time.Time) (ReportResult, error) {
	if err := p.check(); err != nil {
		return ReportResult{}, err
	}
	var j ReportResult
	p.platform(&j, e, rating, at)
	p.domain(&j, r)
	j.Shown = []string{
		fmt.Sprintf("tdx module %d.%02d on fmspc %s, rated %s by intel as of %s",
			r.TEETCBSVN[1], r.TEETCBSVN[0], e.PCK.FMSPC, rating.Status, rating.Date.Format(time.DateOnly)),
		"its host can't read or debug the td",
	}
	return j, nil
}

// platform judges what Intel says of the machine.
func (p *TDXPolicy) platform(j *ReportResult, e *tdx.Endorsement, rating *tdx.Rating, at time.Time) {
	accepted := slices.Contains(p.Statuses, rating.Status)
	j.refuse(!accepted, "intel rates the platform %s%s", rating.Status, advisories(rating.Advisories))
	if accepted && rating.Status != tdx.UpToDate {
		j.Warnings = append(j.Warnings, fmt.Sprintf("intel rates the platform %s%s", rating.Status, advisories(rating.Advisories)))
	}
	j.refuse(e.EvaluationDataNumber() < p.MinimumEvaluation, "collateral is of intel's evaluation %d, below %d", e.EvaluationDataNumber(), p.MinimumEvaluation)
	j.refuse(!e.Valid.Contains(at), "collateral is valid from %s to %s", e.Valid.NotBefore.Format(time.RFC3339), e.Valid.NotAfter.Format(time.RFC3339))
	if e.Stale(at) {
		j.Warnings = append(j.Warnings, fmt.Sprintf("%s was to be replaced at %s and is used in its grace", e.Publisher, e.NextUpdate.Format(time.RFC3339)))
	}
}

func advisories(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return ": " + strings.Join(ids, ", ")
}

// domain judges how the TD was started and what it measured.
func (p *TDXPolicy) domain(j *ReportResult, r *tdx.Report) {
	j.refuse(r.TDAttributes&tdx.AttributeDebug != 0, "the td can be debugged by its host")
	j.bits("td attributes", r.TDAttributes&^tdx.AttributeDebug, p.Attributes)
	j.bits("xfam", r.XFAM, p.XFAM)
	for _, m := range []struct {
		name string
		got  tdx.Measurement
		want TDXMeasurements
	}{
		{"mrseam", r.MRSEAM, p.MRSEAM}, {"mrtd", r.MRTD, p.MRTD},
		{"rtmr0", r.RTMR[0], p.RTMR[0]}, {"rtmr1", r.RTMR[1], p.RTMR[1]},
		{"rtmr2", r.RTMR[2], p.RTMR[2]}, {"rtmr3", r.RTMR[3], p.RTMR[3]},
		{"mrconfigid", r.MRCONFIGID, p.Owner}, {"mrowner", r.MROWNER, p.Owner}, {"mrownerconfig", r.MROWNERCONFIG, p.Owner},
		{"mrservicetd", r.MRSERVICETD, p.ServiceTD},
	} {
		j.refuse(!m.want.accepts(m.got), "%s is %.8s…, not of those accepted", m.name, m.got)
	}
}

func (j *ReportResult) bits(name string, got uint64, want *TDXBits) {
	j.refuse(got&^want.Allowed != 0, "%s have %#x, which is not allowed", name, got&^want.Allowed)
	j.refuse(want.Required&^got != 0, "%s lack %#x", name, want.Required&^got)
}
