package verifier

import (
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// ReportResult is the verdict on one hardware report, each part a list of
// reasons that a person can read.
type ReportResult struct {
	// Refusals is empty on a report that the policy accepts.
	Refusals []string
	// Warnings are what was accepted and is less than it could be.
	Warnings []string
	// Shown is what the report proves.
	Shown []string
}

// Accepted reports whether nothing refuses the report.
func (r ReportResult) Accepted() bool { return len(r.Refusals) == 0 }

// Finding is the result as that of one dimension.
func (r ReportResult) Finding(d attest.Dimension) attest.Finding {
	switch {
	case !r.Accepted():
		return bad(d, attest.ErrPlatform, "%s", strings.Join(r.Refusals, "; "))
	case len(r.Warnings) > 0:
		return warn(d, "%s", strings.Join(slices.Concat(r.Warnings, r.Shown), "; "))
	}
	return good(d, strings.Join(r.Shown, "; "))
}
