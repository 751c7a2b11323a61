package nitrotpm

import (
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func FuzzDecode(f *testing.F) {
	for _, v := range []any{
		map[string]any{"Attestation": map[string]any{"document": []byte("document")}},
		map[string]any{"Error": "InvalidOperation"}, "Error", map[string]any{"Attestation": nil},
	} {
		b, err := cbor.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, 0, 0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		document, err := decode(b)
		if (err == nil) == (len(document) == 0) {
			t.Errorf("%d bytes and %v", len(document), err)
		}
	})
}
