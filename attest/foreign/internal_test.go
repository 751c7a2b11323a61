package foreign

import (
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest/snp"
)

// Without a policy it is said, too, where nothing shows which chip it is.
func TestChipThatIsNotShown(t *testing.T) {
	for name, c := range map[string]struct {
		report snp.Report
		kind   snp.Signer
		want   string
	}{
		"shown":         {snp.Report{ChipID: [64]byte{1}}, snp.VCEK, ""},
		"masked":        {snp.Report{}, snp.VCEK, "masks which chip"},
		"a provider's":  {snp.Report{ChipID: [64]byte{1}}, snp.VLEK, "not for which"},
		"both of these": {snp.Report{}, snp.VLEK, "not for which"},
	} {
		r := new(Result)
		r.warnOfSNP(&c.report, &snp.Endorsement{Kind: c.kind})
		if said := strings.Join(r.Warnings, "\n"); (said == "") != (c.want == "") || !strings.Contains(said, c.want) {
			t.Errorf("%s: %q", name, said)
		}
	}
}
