package tpm

import (
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// wire reads a TPM's structures from bytes of outside: big-endian numbers and
// buffers behind their length as a uint16 (TPM 2.0 Part 1, section 4.5). What
// it reads has one encoding only. After a failure it reads zeros; done tells.
type wire struct {
	name string
	rest []byte
	err  error
}

// newWire caps a structure before it is read.
func newWire(name string, b []byte) *wire {
	w := &wire{name: name, rest: b}
	if len(b) > maxStructure {
		w.err = fmt.Errorf("%w: %s has %d bytes, at most %d", attest.ErrMalformed, name, len(b), maxStructure)
	}
	return w
}

func (w *wire) take(field string, n int) []byte {
	if w.err != nil {
		return nil
	}
	if len(w.rest) < n {
		w.err = fmt.Errorf("%w: %s ends within %s", attest.ErrMalformed, w.name, field)
		return nil
	}
	b := w.rest[:n]
	w.rest = w.rest[n:]
	return b
}

func (w *wire) u8(field string) uint8 {
	if b := w.take(field, 1); b != nil {
		return b[0]
	}
	return 0
}

func (w *wire) u16(field string) uint16 {
	if b := w.take(field, 2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (w *wire) u32(field string) uint32 {
	if b := w.take(field, 4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (w *wire) u64(field string) uint64 {
	if b := w.take(field, 8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// buffer is a TPM2B: a length and as many bytes.
func (w *wire) buffer(field string) []byte { return w.take(field, int(w.u16(field))) }

// done is the first failure, or attest.ErrMalformed where bytes are left.
func (w *wire) done() error {
	if w.err == nil && len(w.rest) > 0 {
		w.err = fmt.Errorf("%w: %s has %d trailing bytes", attest.ErrMalformed, w.name, len(w.rest))
	}
	return w.err
}
