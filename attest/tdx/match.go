package tdx

import (
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// Rating is how Intel rates the platform that a quote comes from, by the
// collateral at hand.
type Rating struct {
	// Status is the platform's, with its TDX module and its quoting enclave.
	Status Status
	// Platform, Module and QE are the parts' own; Module is StatusUnset for
	// module 0, which the platform's rating covers.
	Platform, Module, QE Status
	// Advisories are what Intel says is wrong, such as INTEL-SA-00837, sorted.
	Advisories []string
	// Date is when Intel set the oldest of the levels that apply: from then on
	// known weaknesses are not mended.
	Date time.Time
}

func (r *Rating) add(date time.Time, advisories []string) {
	if r.Date.IsZero() || date.Before(r.Date) {
		r.Date = date
	}
	if len(advisories) > 0 {
		r.Advisories = append(r.Advisories, advisories...)
		slices.Sort(r.Advisories)
		r.Advisories = slices.Compact(r.Advisories)
	}
}

// rate folds what Intel says of the platform, its module and its quoting
// enclave. The error is attest.ErrIdentity for a part that Intel does not know.
func (e *Endorsement) rate(q *Quote) (*Rating, error) {
	qe, err := e.QEIdentity.match(&q.QE)
	if err != nil {
		return nil, err
	}
	module, err := e.TCBInfo.module(&q.Report)
	if err != nil {
		return nil, err
	}
	platform, err := e.TCBInfo.platform(&e.PCK, &q.Report)
	if err != nil {
		return nil, err
	}
	r := &Rating{Status: platform.Status.with(qe.Status), Platform: platform.Status, QE: qe.Status}
	r.add(platform.Date, platform.Advisories)
	r.add(qe.Date, qe.Advisories)
	if module != nil {
		r.Module, r.Status = module.Status, r.Status.with(module.Status)
		r.add(module.Date, module.Advisories)
	}
	return r, nil
}

// module compares the TDX module with Intel's of its major version, and is the
// level of its minor version; nil for module 0. The error is
// attest.ErrIdentity, with the field.
func (t *TCBInfo) module(r *Report) (*SVNLevel, error) {
	minor, major := r.TEETCBSVN[0], r.TEETCBSVN[1]
	m, known := t.Module, true
	if major > 0 {
		m, known = t.Modules[major]
	}
	switch {
	case !known:
		return nil, fmt.Errorf("%w: tdx module: version %d is none that intel rates", attest.ErrIdentity, major)
	case r.MRSIGNERSEAM != m.MRSIGNER:
		return nil, fmt.Errorf("%w: tdx module: mrsignerseam is %.8s…, want %.8s…", attest.ErrIdentity, r.MRSIGNERSEAM, m.MRSIGNER)
	case !masked(r.SEAMAttributes[:], m.AttributesMask[:], m.Attributes[:]):
		return nil, fmt.Errorf("%w: tdx module: seam attributes are %x, want %x", attest.ErrIdentity, r.SEAMAttributes, m.Attributes)
	case major == 0:
		return nil, nil
	}
	return pick(fmt.Sprintf("tdx module %d", major), m.Levels, uint16(minor))
}

// platform is the first level of which every version is reached: those of the
// processor as certified, and those of TDX as reported. A module with versions
// of its own is rated by itself (Intel PCS API v4, "TCB Info V3").
func (t *TCBInfo) platform(p *PCK, r *Report) (*PlatformLevel, error) {
	own := 0
	if r.TEETCBSVN[1] > 0 {
		own = 2
	}
	for i := range t.Levels {
		l := &t.Levels[i]
		if p.PCESVN >= l.PCESVN && reaches(p.Components[:], l.SGX[:]) && reaches(r.TEETCBSVN[own:], l.TDX[own:]) {
			return l, nil
		}
	}
	return nil, fmt.Errorf("%w: the platform's versions are below every tcb level", attest.ErrIdentity)
}

// reaches reports whether no version is below the wanted one.
func reaches(got, want []uint8) bool {
	for i := range got {
		if got[i] < want[i] {
			return false
		}
	}
	return true
}
