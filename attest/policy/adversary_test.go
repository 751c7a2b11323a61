package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/policy"
)

// Brackets that close nothing do not make room for others that nest.
func TestNestingBehindClosedBrackets(t *testing.T) {
	closing, opening := "# "+strings.Repeat("]", 16<<10)+"\n", strings.Repeat(strings.Repeat("[", 100)+"\n", 150)
	for name, text := range map[string]string{
		"comment": closing + "version: " + opening,
		"string":  "a: \"" + strings.Repeat("]", 16<<10) + "\"\nversion: " + opening,
		"maps":    "# " + strings.Repeat("}", 16<<10) + "\nversion: " + strings.Repeat(strings.Repeat("{a: ", 100)+"\n", 50),
	} {
		_, err := policy.Parse([]byte(text), nil)
		if !errors.Is(err, attest.ErrPolicy) || !strings.HasSuffix(err.Error(), "nests too deeply") {
			t.Errorf("%s: %.120v", name, err)
		}
	}
}
