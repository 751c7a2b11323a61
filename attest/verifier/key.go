package verifier

import (
	"crypto/x509"
	"encoding/binary"
)

// key names what something that is kept was made of: of the policy, and of
// bytes that the machine chose. Each part stands behind its length, so that
// what a machine shows never reads as a root of the policy's.
type key []byte

func newKey(size int) key { return make(key, 0, size) }

func (k *key) number(all ...uint64) {
	for _, n := range all {
		*k = binary.BigEndian.AppendUint64(*k, n)
	}
}

func (k *key) bytes(b []byte) {
	k.number(uint64(len(b)))
	*k = append(*k, b...)
}

func (k *key) certificates(all []*x509.Certificate) {
	k.number(uint64(len(all)))
	for _, c := range all {
		k.bytes(c.Raw)
	}
}
