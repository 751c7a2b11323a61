package profile

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// An object is refused, or is a term that is shown as an object of the same
// term.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`"x"`, `41`, `-1.5e3`, `true`, `null`, `[]`, `{"iri": "http://e/x"}`, `{"value": "x", "language": "de"}`, `{"value": "", "datatype": "http://e/t"}`,
		`{"iri": "x", "value": "y"}`, `{"value": "\ud800"}`, `{}`, `{"nonsense": 1}`, ` "x" `, `1e999`, `{"value": "x", "language": "de", "datatype": "http://e/t"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		// The framework and the batch give nothing but JSON.
		if !json.Valid(text) {
			return
		}
		term, err := termOf(text)
		if err != nil {
			if !errors.Is(err, rdf.ErrTerm) {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if term.Check() != nil {
			return
		}
		shown, err := json.Marshal(showTerm(term))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := termOf(shown); err != nil || again != term {
			t.Errorf("%q is %v, shown as %s, and that is %v, error %v", text, term, shown, again, err)
		}
	})
}
