// Package tdx parses and verifies Intel TDX quotes and the collateral that
// Intel signs about the platforms they come from. It decides whether a quote
// is genuine and how Intel rates its platform, never whether that is good
// enough: that is package verifier.
//
// Invariants: bytes are capped before they are parsed, every byte of a quote
// is read and an unknown version, kind or status is refused; collateral is
// read only from the very bytes that were signed; a platform's status is never
// better than that of its processor, its TDX module or its quoting enclave. No
// function here asks a clock, the network or a disk.
package tdx

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Measurement is a SHA-384 digest, as TDX measures with. Its text form is 96
// lowercase hex digits.
type Measurement [48]byte

func (m Measurement) String() string { return hex.EncodeToString(m[:]) }

// MarshalText writes m as lowercase hex.
func (m Measurement) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads exactly 96 hex digits. The error is attest.ErrMalformed.
func (m *Measurement) UnmarshalText(text []byte) error {
	var field hexField
	if err := field.UnmarshalText(text); err != nil {
		return err
	}
	return field.into("measurement", m[:])
}

// reader takes fields off the front of a structure of Intel's: little-endian,
// with no padding between. The first that is cut short sticks.
type reader struct {
	name string
	rest []byte
	err  error
}

// take is the next n bytes, or none where fewer are left.
func (r *reader) take(field string, n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.rest)) {
		r.err = fmt.Errorf("%w: %s: %s has %d bytes, want %d", attest.ErrMalformed, r.name, field, len(r.rest), n)
	}
	if r.err != nil {
		return nil
	}
	var b []byte
	b, r.rest = r.rest[:n:n], r.rest[n:]
	return b
}

func (r *reader) fill(field string, dst []byte) { copy(dst, r.take(field, len(dst))) }

func (r *reader) uint16(field string) uint16 {
	var b [2]byte
	r.fill(field, b[:])
	return binary.LittleEndian.Uint16(b[:])
}

func (r *reader) uint32(field string) uint32 {
	var b [4]byte
	r.fill(field, b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (r *reader) uint64(field string) uint64 {
	var b [8]byte
	r.fill(field, b[:])
	return binary.LittleEndian.Uint64(b[:])
}

// zeros skips n bytes that the layout reserves.
func (r *reader) zeros(field string, n int) {
	if b := r.take(field, n); r.err == nil && !allZero(b) {
		r.err = fmt.Errorf("%w: %s: %s is reserved and not zero", attest.ErrMalformed, r.name, field)
	}
}

// end refuses what follows the last field.
func (r *reader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%w: %s: %d bytes follow the last field", attest.ErrMalformed, r.name, len(r.rest))
	}
	return r.err
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
