package policy

import (
	"fmt"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/release"
)

// ParseWitnesses reads a verifier key and, behind a space, a label of one word
// on each line; # begins a comment. Errors are attest.ErrPolicy and those of
// checkpoint.ParseKey.
func ParseWitnesses(text []byte) (all []release.Witness, err error) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		encoded, label, _ := strings.Cut(line, " ")
		key, err := checkpoint.ParseKey(checkpoint.KindWitness, encoded)
		if err != nil {
			return nil, err
		}
		if label = strings.TrimSpace(label); !plainLabel(label) {
			return nil, fmt.Errorf("%w: label %.40q is not a word", attest.ErrPolicy, label)
		}
		all = append(all, release.Witness{Key: key, Label: label})
	}
	if len(all) == 0 || len(all) > release.MaxWitnesses {
		return nil, fmt.Errorf("%w: %d verifier keys of witnesses, want 1 to %d", attest.ErrPolicy, len(all), release.MaxWitnesses)
	}
	return all, nil
}
