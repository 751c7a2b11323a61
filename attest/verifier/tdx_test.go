package verifier_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// tdxPolicy accepts the platform as it was drawn and nothing else.
func tdxPolicy(p *tdxtest.Platform) *verifier.TDXPolicy {
	exactly := func(m ...tdx.Measurement) verifier.TDXMeasurements { return verifier.TDXMeasurements{Accepted: m} }
	policy := &verifier.TDXPolicy{
		Roots: p.Roots(), Grace: new(time.Duration), Statuses: []tdx.Status{tdx.UpToDate}, MinimumEvaluation: 17,
		Attributes: &verifier.TDXBits{Allowed: tdx.AttributeSEPTVEDisable | tdx.AttributePKS, Required: tdx.AttributeSEPTVEDisable},
		XFAM:       &verifier.TDXBits{Allowed: 0x600e7, Required: 3},
		MRSEAM:     exactly(p.Report.MRSEAM), MRTD: exactly(p.Report.MRTD), Owner: exactly(tdx.Measurement{}), ServiceTD: exactly(tdx.Measurement{}),
	}
	for i, m := range p.Report.RTMR {
		policy.RTMR[i] = exactly(m)
	}
	return policy
}

func appraiseTDX(t *testing.T, p *tdxtest.Platform, policy *verifier.TDXPolicy) verifier.ReportResult {
	t.Helper()
	return appraiseTDXAt(t, p, policy, tdxtest.Now)
}

// appraiseTDXAt appraises at another time than the collateral was verified at.
func appraiseTDXAt(t *testing.T, p *tdxtest.Platform, policy *verifier.TDXPolicy, at time.Time) verifier.ReportResult {
	t.Helper()
	terms, err := policy.Terms(tdxtest.Now)
	if err != nil {
		t.Fatal(err)
	}
	e, err := tdx.VerifyEndorsement(p.Chain(), p.Collateral(), terms)
	if err != nil {
		t.Fatal(err)
	}
	q := p.Parsed([64]byte{}, nil)
	rating, err := e.Check(q)
	if err != nil {
		t.Fatal(err)
	}
	j, err := policy.Appraise(&q.Report, e, rating, at)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// Each differs from an accepted machine or policy in one thing.
func TestAppraiseTDX(t *testing.T) {
	hour := time.Hour
	for name, c := range map[string]struct {
		edit   func(*tdxtest.Platform)
		policy func(*verifier.TDXPolicy)
		want   attest.Verdict
		reason string
	}{
		"good":              {nil, nil, attest.Affirming, ""},
		"pks, allowed":      {func(p *tdxtest.Platform) { p.Report.TDAttributes |= tdx.AttributePKS }, nil, attest.Affirming, ""},
		"debug":             {func(p *tdxtest.Platform) { p.Report.TDAttributes |= tdx.AttributeDebug }, nil, attest.Contraindicated, "debugged"},
		"migratable":        {func(p *tdxtest.Platform) { p.Report.TDAttributes |= tdx.AttributeMigratable }, nil, attest.Contraindicated, "td attributes have 0x20000000"},
		"sept ve":           {func(p *tdxtest.Platform) { p.Report.TDAttributes = 0 }, nil, attest.Contraindicated, "td attributes lack"},
		"xfam":              {func(p *tdxtest.Platform) { p.Report.XFAM |= 1 << 20 }, nil, attest.Contraindicated, "xfam have"},
		"mrtd":              {func(p *tdxtest.Platform) { p.Report.MRTD[1]++ }, func(w *verifier.TDXPolicy) { w.MRTD.Accepted = []tdx.Measurement{{0x70}} }, attest.Contraindicated, "mrtd is 7001"},
		"rtmr":              {func(p *tdxtest.Platform) { p.Report.RTMR[2] = tdx.Measurement{9} }, func(w *verifier.TDXPolicy) { w.RTMR[2].Accepted = []tdx.Measurement{{0xa2}} }, attest.Contraindicated, "rtmr2 is 09"},
		"any rtmr":          {func(p *tdxtest.Platform) { p.Report.RTMR[2] = tdx.Measurement{9} }, func(w *verifier.TDXPolicy) { w.RTMR[2] = verifier.TDXMeasurements{Any: true} }, attest.Affirming, ""},
		"owner":             {func(p *tdxtest.Platform) { p.Report.MROWNER[0] = 1 }, nil, attest.Contraindicated, "mrowner is"},
		"service td":        {func(p *tdxtest.Platform) { p.Report.MRSERVICETD[0] = 1 }, nil, attest.Contraindicated, "mrservicetd is"},
		"evaluation":        {func(p *tdxtest.Platform) { p.QEIdentity.EvaluationDataNumber = 16 }, nil, attest.Contraindicated, "evaluation 16, below 17"},
		"status":            {func(p *tdxtest.Platform) { p.QE.ISVSVN = 4 }, nil, attest.Contraindicated, "OutOfDate: INTEL-SA-00003"},
		"status, accepted":  {func(p *tdxtest.Platform) { p.QE.ISVSVN = 4 }, func(w *verifier.TDXPolicy) { w.Statuses = append(w.Statuses, tdx.OutOfDate) }, attest.Warning, "OutOfDate: INTEL-SA-00003"},
		"stale, in a grace": {func(p *tdxtest.Platform) { p.TCBInfo.NextUpdate = tdxtest.Now.Add(-time.Minute) }, func(w *verifier.TDXPolicy) { w.Grace = &hour }, attest.Warning, "tcb info was to be replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			p := tdxtest.Draw(t)
			if c.edit != nil {
				c.edit(p)
			}
			policy := tdxPolicy(p)
			if c.policy != nil {
				c.policy(policy)
			}
			j := appraiseTDX(t, p, policy)
			if f := j.Finding(attest.Hardware); f.Verdict != c.want || !strings.Contains(f.Reason, c.reason) {
				t.Errorf("%s: %s; want %s: %s", f.Verdict, f.Reason, c.want, c.reason)
			}
		})
	}
}

// What was verified once is not good for ever: collateral that has been kept is
// held against the time of each appraisal.
func TestKeptCollateralIsOfItsTime(t *testing.T) {
	p := tdxtest.Draw(t)
	for at, want := range map[time.Duration]attest.Verdict{0: attest.Affirming, 100 * 24 * time.Hour: attest.Contraindicated, -100 * 24 * time.Hour: attest.Contraindicated} {
		j := appraiseTDXAt(t, p, tdxPolicy(p), tdxtest.Now.Add(at))
		if f := j.Finding(attest.Hardware); f.Verdict != want || want != attest.Affirming && !strings.Contains(f.Reason, "collateral is valid from") {
			t.Errorf("%s later: %s: %s; want %s", at, f.Verdict, f.Reason, want)
		}
	}
}

func TestTDXPolicyUnset(t *testing.T) {
	long := -time.Second
	for name, edit := range map[string]func(*verifier.TDXPolicy){
		"roots":           func(p *verifier.TDXPolicy) { p.Roots = nil },
		"a root":          func(p *verifier.TDXPolicy) { p.Roots = append(p.Roots, nil) },
		"grace":           func(p *verifier.TDXPolicy) { p.Grace = nil },
		"negative grace":  func(p *verifier.TDXPolicy) { p.Grace = &long },
		"statuses":        func(p *verifier.TDXPolicy) { p.Statuses = nil },
		"unset status":    func(p *verifier.TDXPolicy) { p.Statuses = []tdx.Status{tdx.StatusUnset} },
		"evaluation":      func(p *verifier.TDXPolicy) { p.MinimumEvaluation = 0 },
		"attributes":      func(p *verifier.TDXPolicy) { p.Attributes = nil },
		"debug":           func(p *verifier.TDXPolicy) { p.Attributes.Allowed |= tdx.AttributeDebug },
		"xfam":            func(p *verifier.TDXPolicy) { p.XFAM = nil },
		"contradiction":   func(p *verifier.TDXPolicy) { p.XFAM.Required = 1 << 40 },
		"mrseam":          func(p *verifier.TDXPolicy) { p.MRSEAM = verifier.TDXMeasurements{} },
		"mrtd":            func(p *verifier.TDXPolicy) { p.MRTD = verifier.TDXMeasurements{} },
		"rtmr3":           func(p *verifier.TDXPolicy) { p.RTMR[3] = verifier.TDXMeasurements{} },
		"owner":           func(p *verifier.TDXPolicy) { p.Owner = verifier.TDXMeasurements{} },
		"service td":      func(p *verifier.TDXPolicy) { p.ServiceTD = verifier.TDXMeasurements{} },
		"any and certain": func(p *verifier.TDXPolicy) { p.MRTD.Any = true },
	} {
		t.Run(name, func(t *testing.T) {
			policy := tdxPolicy(tdxtest.Draw(t))
			edit(policy)
			if _, err := policy.Terms(tdxtest.Now); !errors.Is(err, attest.ErrPolicy) {
				t.Errorf("terms: %v", err)
			}
			if _, err := policy.Appraise(&tdx.Report{}, nil, nil, tdxtest.Now); !errors.Is(err, attest.ErrPolicy) {
				t.Errorf("appraisal: %v", err)
			}
		})
	}
}
