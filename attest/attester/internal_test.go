package attester

import (
	"bytes"
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// Makers leave room behind an endorsement certificate.
func TestTrimDER(t *testing.T) {
	value := append([]byte{0x30, 0x82, 1, 0}, make([]byte, 256)...)
	for name, c := range map[string]struct{ in, want []byte }{
		"room behind it":  {append(bytes.Clone(value), 0xff, 0xff), value},
		"no room":         {value, value},
		"less than said":  {value[:100], value[:100]},
		"another length":  {[]byte{0x30, 3, 2, 1, 1, 0xff}, []byte{0x30, 3, 2, 1, 1, 0xff}},
		"no certificate":  {[]byte{0xff, 0x82, 0, 0, 0xff}, []byte{0xff, 0x82, 0, 0, 0xff}},
		"next to nothing": {[]byte{0x30}, []byte{0x30}},
	} {
		if got := trimDER(c.in); !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(c.want))
		}
	}
}

// A batch takes what one tree holds; who comes after is told, and nobody else
// is kept from an answer.
func TestFullBatch(t *testing.T) {
	var m TPM
	m.queue.quoting = true
	m.queue.next = &batch{leaves: make([]attest.Digest, maxLeaves-1)}
	if _, index, err := m.join(attest.Digest{1}); err != nil || index != maxLeaves-1 {
		t.Errorf("the last place: %d, %v", index, err)
	}
	if _, _, err := m.join(attest.Digest{2}); !errors.Is(err, errFull) {
		t.Errorf("a place more: %v", err)
	}
	if n := len(m.queue.next.leaves); n != maxLeaves {
		t.Errorf("%d leaves, want %d", n, maxLeaves)
	}
}
