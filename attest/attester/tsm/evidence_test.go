package tsm_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/tsm"
	"github.com/toolshed-cloud/shed/attest/attester/tsm/tsmtest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// From the stand-in kernel's report beside a real TPM's quote to the verdict,
// and to none where the kernel reports on something else.
func TestReportBesideTheQuote(t *testing.T) {
	w, x := verifiertest.NewSNP(t, "Genoa"), verifiertest.NewTDX(t)
	for provider, c := range map[tsm.Provider]struct {
		sign   func([64]byte) (report, certificates []byte, err error)
		accept func(*verifier.Policy)
	}{
		tsm.SNP: {func(in [64]byte) ([]byte, []byte, error) {
			return w.Key.Report(func(r *snp.Report) { r.ReportData = in }), w.Key.Table(), nil
		}, func(p *verifier.Policy) { p.SNP = w.Policy() }},
		tsm.TDX: {func(in [64]byte) ([]byte, []byte, error) { return x.Quote(in, nil), nil, nil }, func(p *verifier.Policy) { p.TDX = x.Policy() }},
	} {
		t.Run(string(provider), func(t *testing.T) {
			m := verifiertest.Boot(t)
			collateral, err := x.Collateral().Encode()
			if err != nil {
				t.Fatal(err)
			}
			m.Endorsements.RevocationLists, m.Endorsements.TDX = [][]byte{w.Vendor.ARK.List(nil)}, collateral
			m.PinSecureBoot()
			k := &tsmtest.Kernel{Provider: provider, Sign: c.sign}
			r, err := tsm.Probe(k, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			m.Reporters = []attester.Reporter{r}
			p := m.PolicyAt(attest.TierProviderRooted)
			c.accept(&p)
			result, err := m.Input(t).Appraise(p)
			want := attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierProviderRooted}
			if err != nil || !result.Accepted() || result.Tiers != want || k.Entries() != 0 {
				t.Errorf("tiers %+v, want %+v, error %v, %d entries left: %+v", result.Tiers, want, err, k.Entries(), result.Findings)
			}
			k.Sign = func(in [64]byte) ([]byte, []byte, error) {
				in[0]++
				return c.sign(in)
			}
			if _, err := m.Input(t).Appraise(p); !errors.Is(err, attest.ErrBinding) {
				t.Errorf("a report about something else: %v", err)
			}
		})
	}
}
