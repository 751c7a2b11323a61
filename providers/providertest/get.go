package providertest

import (
	"errors"
	"reflect"

	"github.com/toolshed-cloud/shed/providers"
)

// messageOf is what an error says to a person.
func messageOf(err error) string {
	var e *providers.Error
	if errors.As(err, &e) {
		return e.Message + " " + e.Hint
	}
	return ""
}

// hostileIDs are none that the control plane draws.
var hostileIDs = []providers.MachineID{
	"", "../../etc", "a/b", "a\nb", "*", "$(id)", "-rf", "aaaaaaaaaaaaaaaaaaaaaaaaaaa", "ÄÖÜ",
}

var getCases = []testCase{
	{name: "get-of-nothing-is-not-found", check: func(t T, s *suite) {
		_, err := s.Provider.Get(t.Context(), providers.MachineID(newID()))
		wantCode(t, "Get", err, providers.CodeNotFound)
	}},
	{name: "get-of-what-is-no-id-is-refused", check: func(t T, s *suite) {
		for _, id := range hostileIDs {
			_, err := s.Provider.Get(t.Context(), id)
			wantCode(t, "Get("+string(id)+")", err, providers.CodeNotFound, providers.CodeInvalid)
		}
	}},
	{name: "get-is-the-same-again", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		first, again := b.get(req.Machine), b.get(req.Machine)
		// What a disk takes may change while nobody looks.
		for _, m := range []*providers.Machine{&first, &again} {
			for i := range m.Resources {
				m.Resources[i].Bytes = 0
			}
		}
		if !reflect.DeepEqual(first, again) {
			t.Errorf("got %+v, was %+v", again, first)
		}
	}},
	{name: "get-names-the-machine-of-each-resource", check: func(t T, s *suite) {
		b := s.bench(t)
		req, m := b.create()
		for _, r := range m.Resources {
			if r.Machine != req.Machine || r.ID == "" || r.Kind == "" {
				t.Errorf("resource %+v", r)
			}
		}
	}},
	{name: "get-of-a-deleted-machine-is-not-found", check: func(t T, s *suite) {
		b := s.bench(t)
		req, _ := b.create()
		if err := b.delete(t.Context(), req.Machine, false); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		_, err := s.Provider.Get(t.Context(), req.Machine)
		wantCode(t, "Get", err, providers.CodeNotFound)
	}},
}
