package query

import (
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// Every function that is read can be evaluated.
func TestFunctionsAreThere(t *testing.T) {
	special := map[string]bool{"BOUND": true, "COALESCE": true, "IF": true, "NOW": true, "REGEX": true, "REPLACE": true}
	for name := range sparql.Functions {
		if functions[name] == nil && !special[name] {
			t.Errorf("%s is read and not evaluated", name)
		}
	}
	for name := range sparql.Casts {
		if functions[name] == nil {
			t.Errorf("%s is read and not evaluated", name)
		}
	}
}
