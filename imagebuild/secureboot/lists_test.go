package secureboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// sized is one list of certificates of the given sizes.
func sized(sizes ...int) []byte {
	b := bytes.Clone(typeX509[:])
	total := listHead
	for _, size := range sizes {
		total += size
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(total))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(sizes[0]))
	return append(b, make([]byte, total-listHead)...)
}

func TestOneCertificateVouches(t *testing.T) {
	one := sized(40)
	if got, err := (&Keys{DB: one}).Authority(); err != nil || len(got) != 40 {
		t.Errorf("one certificate: %d bytes, %v", len(got), err)
	}
	good := Keys{PK: one, KEK: one, DB: one}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string][]byte{
		"none":      {},
		"short":     one[:20],
		"empty":     sized(16),
		"two":       sized(40, 40),
		"two lists": append(sized(40), sized(40)...),
		"a hash":    append(make([]byte, 16), one[16:]...),
		"huge":      sized(maxVariable),
	} {
		for variable, keys := range map[string]Keys{
			"PK": {PK: bad, KEK: one, DB: one}, "KEK": {PK: one, KEK: bad, DB: one}, "db": {PK: one, KEK: one, DB: bad},
		} {
			if err := keys.Check(); !errors.Is(err, ErrKeys) {
				t.Errorf("%s in %s: %v", name, variable, err)
			}
		}
	}
	good.DBX = make([]byte, maxVariable+1)
	if err := good.Check(); !errors.Is(err, ErrKeys) {
		t.Errorf("a large dbx: %v", err)
	}
	if _, err := good.Certificate(); !errors.Is(err, ErrKeys) {
		t.Errorf("zeros for a certificate: %v", err)
	}
}

func FuzzOnlySignature(f *testing.F) {
	f.Add(sized(40))
	f.Add(sized(1, 1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, lists []byte) {
		if _, err := onlySignature(lists); err != nil && !errors.Is(err, ErrKeys) {
			t.Errorf("error %v of no known kind", err)
		}
	})
}

func FuzzReadDigests(f *testing.F) {
	f.Add(digestList([][32]byte{{1}, {2}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, lists []byte) {
		digests, err := readDigests(lists)
		switch {
		case err != nil && !errors.Is(err, ErrKeys):
			t.Errorf("error %v of no known kind", err)
		case err == nil && len(lists) > 0 && !bytes.Equal(digestList(digests), lists):
			t.Error("what was read is written otherwise")
		}
	})
}
