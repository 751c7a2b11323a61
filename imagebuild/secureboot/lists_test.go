package registers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// list is one EFI_SIGNATURE_LIST of certificates of the given sizes.
func list(sizes ...int) []byte {
	b := bytes.Clone(x509List)
	total := 28
	for _, size := range sizes {
		total += size
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(total))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(sizes[0]))
	return append(b, make([]byte, total-28)...)
}

func TestOneCertificateVouches(t *testing.T) {
	if got, err := onlyCertificate(list(40)); err != nil || len(got) != 40 {
		t.Errorf("one certificate: %d bytes, %v", len(got), err)
	}
	for name, db := range map[string][]byte{
		"none":      {},
		"short":     list(40)[:20],
		"two":       list(40, 40),
		"two lists": append(list(40), list(40)...),
		"a hash":    append(make([]byte, 16), list(40)[16:]...),
	} {
		if _, err := onlyCertificate(db); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOnlyCertificate(f *testing.F) {
	f.Add(list(40))
	f.Add(list(1, 1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, db []byte) {
		if _, err := onlyCertificate(db); err != nil && !errors.Is(err, ErrUnknown) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}
