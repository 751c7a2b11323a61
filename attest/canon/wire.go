package canon

import (
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Marshal and Unmarshal work by reflection, copy what they read and encode it
// anew to compare. What is verified on every connection is written and read
// here by hand, without a copy: Reader accepts the one encoding that Writer
// makes, so that nothing need be encoded again.

// The major types that the dialect has (RFC 8949, section 3.1).
const (
	majorUint  = 0
	majorBytes = 2
	majorArray = 4
	majorMap   = 5
)

// Writer appends to an encoding. The caller writes as many values as it said,
// and the keys of a map in ascending order.
type Writer struct{ B []byte }

func (w *Writer) head(major byte, n uint64) {
	major <<= 5
	switch {
	case n < 24:
		w.B = append(w.B, major|byte(n))
	case n < 1<<8:
		w.B = append(w.B, major|24, byte(n))
	case n < 1<<16:
		w.B = binary.BigEndian.AppendUint16(append(w.B, major|25), uint16(n))
	case n < 1<<32:
		w.B = binary.BigEndian.AppendUint32(append(w.B, major|26), uint32(n))
	default:
		w.B = binary.BigEndian.AppendUint64(append(w.B, major|27), n)
	}
}

// Map begins a map of n pairs.
func (w *Writer) Map(n int) { w.head(majorMap, uint64(n)) }

// Array begins an array of n values.
func (w *Writer) Array(n int) { w.head(majorArray, uint64(n)) }

// Uint writes a number, which may be a key.
func (w *Writer) Uint(n uint64) { w.head(majorUint, n) }

// Bytes writes a byte string.
func (w *Writer) Bytes(b []byte) {
	w.head(majorBytes, uint64(len(b)))
	w.B = append(w.B, b...)
}

// Digests writes an array of digests.
func (w *Writer) Digests(all []attest.Digest) {
	w.Array(len(all))
	for i := range all {
		w.Bytes(all[i][:])
	}
}

// Reader reads what Writer wrote and nothing else. After a failure it reads
// zeros, and Done answers the failure.
type Reader struct {
	name string
	rest []byte
	err  error
}

// NewReader reads at most limit bytes; name says what they are, for the error.
// The byte strings that it reads are parts of b.
func NewReader(name string, b []byte, limit int) *Reader {
	r := &Reader{name: name, rest: b}
	if len(b) > limit {
		r.Fail("has %d bytes, at most %d", len(b), limit)
	}
	return r
}

// Fail notes the first failure.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s %s", attest.ErrMalformed, r.name, fmt.Sprintf(format, args...))
	}
}

// Done is the first failure, which is an attest.ErrMalformed, or that bytes are
// left.
func (r *Reader) Done() error {
	if len(r.rest) > 0 {
		r.Fail("has %d trailing bytes", len(r.rest))
	}
	return r.err
}

// head reads a major type's number, in its shortest form alone.
func (r *Reader) head(major byte) uint64 {
	if r.err != nil || len(r.rest) == 0 {
		r.Fail("ends early")
		return 0
	}
	first := r.rest[0]
	if first>>5 != major {
		r.Fail("has a value of type %d, want %d", first>>5, major)
		return 0
	}
	short := uint64(first & 31)
	r.rest = r.rest[1:]
	if short < 24 {
		return short
	}
	size := 1 << (short - 24)
	if short > 27 || len(r.rest) < size {
		r.Fail("ends early, or has a length of no size")
		return 0
	}
	var b [8]byte
	copy(b[8-size:], r.rest[:size])
	r.rest = r.rest[size:]
	n := binary.BigEndian.Uint64(b[:])
	// A number that fits in half the bytes, or in the first byte, is written so.
	if n < 24 || size > 1 && n < 1<<(4*size) {
		r.Fail("is not deterministically encoded")
		return 0
	}
	return n
}

// Uint reads a number of at most limit.
func (r *Reader) Uint(limit uint64) uint64 {
	n := r.head(majorUint)
	if n > limit {
		r.Fail("has number %d, at most %d", n, limit)
		return 0
	}
	return n
}

// Bytes reads a byte string of at most limit bytes.
func (r *Reader) Bytes(field string, limit int) []byte {
	n := r.head(majorBytes)
	if r.err == nil && n > uint64(limit) {
		r.Fail("%s has %d bytes, at most %d", field, n, limit)
	}
	if r.err == nil && n > uint64(len(r.rest)) {
		r.Fail("ends within %s", field)
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// Exactly reads a byte string into all of dst.
func (r *Reader) Exactly(field string, dst []byte) {
	b := r.Bytes(field, len(dst))
	if r.err == nil && len(b) != len(dst) {
		r.Fail("%s has %d bytes, want %d", field, len(b), len(dst))
	}
	copy(dst, b)
}

// Array reads the length of an array, at most limit.
func (r *Reader) Array(field string, limit int) int {
	n := r.head(majorArray)
	if r.err == nil && n > uint64(limit) {
		r.Fail("%s has %d entries, at most %d", field, n, limit)
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

// Digests reads an array of at most limit digests.
func (r *Reader) Digests(field string, limit int) []attest.Digest {
	all := make([]attest.Digest, r.Array(field, limit))
	for i := range all {
		r.Exactly(field, all[i][:])
	}
	return all
}

// Struct reads a map whose keys are small numbers in ascending order: those of
// required must be there, those of optional may, and others are refused. Each
// is a bit of the sets; value reads the value of its key.
func (r *Reader) Struct(name string, required, optional uint64, value func(key uint64)) {
	pairs := r.head(majorMap)
	var seen, last uint64
	for i := uint64(0); i < pairs && r.err == nil; i++ {
		key := r.Uint(63)
		switch {
		case r.err != nil:
			return
		case i > 0 && key <= last:
			r.Fail("%s has field %d out of order or twice", name, key)
		case (required|optional)&(1<<key) == 0:
			r.Fail("%s has an unknown field %d", name, key)
		default:
			seen, last = seen|1<<key, key
			value(key)
		}
	}
	if missing := required &^ seen; r.err == nil && missing != 0 {
		r.Fail("%s lacks fields %#b", name, missing)
	}
}
