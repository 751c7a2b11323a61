package nitrotpm

import (
	"bytes"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

func FuzzDecode(f *testing.F) {
	for _, v := range []any{
		map[string]any{"Attestation": map[string]any{"document": []byte("document")}},
		map[string]any{"Error": "InvalidOperation"}, "Error", map[string]any{"Attestation": nil},
		map[string]any{"Attestation": map[string]any{"document": []byte{}}}, map[string]any{"Attestation": map[string]any{}},
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

// An answer in words that are not known is none, whatever else it says.
func TestDecodeRefuses(t *testing.T) {
	document := []byte{0xa1, 0x68, 'd', 'o', 'c', 'u', 'm', 'e', 'n', 't', 0x41, 7}
	attestation := append([]byte{0x6b}, "Attestation"...)
	good := append(append([]byte{0xa1}, attestation...), document...)
	if got, err := decode(good); err != nil || !bytes.Equal(got, []byte{7}) {
		t.Fatalf("%x, %v", got, err)
	}
	for name, b := range map[string][]byte{
		"a field twice":    append(append(append(append([]byte{0xa2}, attestation...), document...), attestation...), document...),
		"an unknown field": append(append([]byte{0xa2}, good[1:]...), 0x65, 'O', 't', 'h', 'e', 'r', 1),
		"a tag":            append(append([]byte{0xa1}, attestation...), append([]byte{0xd8, 0x20}, document...)...),
		"an empty document": append(append([]byte{0xa1}, attestation...),
			0xa1, 0x68, 'd', 'o', 'c', 'u', 'm', 'e', 'n', 't', 0x40),
	} {
		if got, err := decode(b); err == nil {
			t.Errorf("%s: document %x", name, got)
		}
	}
}
