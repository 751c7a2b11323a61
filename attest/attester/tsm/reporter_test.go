package tsm_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest/attester/tsm"
	"github.com/toolshed-cloud/shed/attest/attester/tsm/tsmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
)

// A report goes into evidence as what it is: TDX's with nothing beside it.
func TestReporter(t *testing.T) {
	for provider, c := range map[tsm.Provider]struct {
		kind         evidence.Kind
		certificates string
	}{
		tsm.SNP: {evidence.KindSNP, "certificates"},
		tsm.TDX: {evidence.KindTDX, ""},
	} {
		k := &tsmtest.Kernel{Provider: provider, Sign: echo}
		r, err := tsm.Probe(k, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Report(data)
		want, _, _ := echo(data)
		if err != nil || got.Kind != c.kind || string(got.Report) != string(want) || string(got.Certificates) != c.certificates {
			t.Errorf("%s: %+v, %v", provider, got, err)
		}
	}
}

func TestReporterWithoutReports(t *testing.T) {
	if _, err := tsm.Probe(&tsmtest.Kernel{}, rand.Reader); !errors.Is(err, tsm.ErrAbsent) {
		t.Errorf("no provider: %v", err)
	}
	for what, sizes := range map[string][2]int{
		"report":       {evidence.MaxReport + 1, 1},
		"certificates": {1, evidence.MaxReportCertificates + 1},
	} {
		k := &tsmtest.Kernel{Provider: tsm.SNP, Sign: func([64]byte) ([]byte, []byte, error) {
			return make([]byte, sizes[0]), make([]byte, sizes[1]), nil
		}}
		if _, err := tsm.Probe(k, rand.Reader); err == nil {
			t.Errorf("a %s longer than evidence holds", what)
		}
	}
}
