package tsm

import (
	"fmt"
	"io"

	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// Reporter makes the reports that go beside a TPM's quote.
type Reporter struct {
	FS   FS
	Rand io.Reader
}

var _ attester.Reporter = (*Reporter)(nil)

// kinds are what providers' reports are called in evidence.
var kinds = map[Provider]evidence.Kind{SNP: evidence.KindSNP, TDX: evidence.KindTDX}

// Report has the kernel make one report over data. Errors are Get's, and that
// it is longer than evidence holds.
func (r *Reporter) Report(data [64]byte) (evidence.Report, error) {
	report, err := Get(r.FS, r.Rand, data)
	if err != nil {
		return evidence.Report{}, err
	}
	switch {
	case len(report.Report) > evidence.MaxReport:
		return evidence.Report{}, fmt.Errorf("outblob of report: %d bytes, at most %d", len(report.Report), evidence.MaxReport)
	case len(report.Certificates) > evidence.MaxReportCertificates:
		return evidence.Report{}, fmt.Errorf("auxblob of report: %d bytes, at most %d", len(report.Certificates), evidence.MaxReportCertificates)
	}
	return evidence.Report{Kind: kinds[report.Provider], Report: report.Report, Certificates: report.Certificates}, nil
}

// Probe is a Reporter that has made a report. The error is ErrAbsent where this
// kernel has no provider, and otherwise Report's.
func Probe(f FS, rand io.Reader) (*Reporter, error) {
	r := &Reporter{FS: f, Rand: rand}
	if _, err := r.Report([64]byte{}); err != nil {
		return nil, err
	}
	return r, nil
}
