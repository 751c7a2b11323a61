package kv

import (
	"strings"
	"testing"
)

// What is read as a list of tags is one when it is written again.
func FuzzParseTags(f *testing.F) {
	for _, seed := range []string{`*`, `"1"`, `W/"1"`, `"a,b", "c"`, `,"1",,`, `"`, `W/`, `"1" "2"`, `*,*`, "\"\xff\"", ``} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTags(s)
		if err != nil {
			return
		}
		var written []string
		for _, one := range got.list {
			text := `"` + one.opaque + `"`
			if one.weak {
				text = "W/" + text
			}
			written = append(written, text)
		}
		if got.any != (len(written) == 0) {
			t.Fatalf("%q: any %t with %q", s, got.any, written)
		}
		if got.any {
			return
		}
		again, err := parseTags(strings.Join(written, ", "))
		if err != nil || len(again.list) != len(got.list) {
			t.Fatalf("%q: %q is %v, %v", s, written, again, err)
		}
		for i := range got.list {
			if got.list[i] != again.list[i] {
				t.Errorf("%q: %v, then %v", s, got.list[i], again.list[i])
			}
		}
	})
}
