package canon_test

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// Each length of a number is written and read as the library has it, and in no
// longer form.
func TestNumbersHaveOneForm(t *testing.T) {
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		var w canon.Writer
		w.Uint(n)
		want, err := canon.Marshal(n)
		if err != nil || !bytes.Equal(w.B, want) {
			t.Errorf("%d: %x, want %x, error %v", n, w.B, want, err)
		}
		r := canon.NewReader("it", w.B, 16)
		if got := r.Uint(math.MaxUint64); got != n || r.Done() != nil {
			t.Errorf("%d: read as %d, error %v", n, got, r.Done())
		}
	}
	for name, b := range map[string][]byte{
		"23 in two bytes": {0x18, 23}, "255 in three": {0x19, 0, 255}, "65535 in five": {0x1a, 0, 0, 255, 255},
		"2^32-1 in nine": {0x1b, 0, 0, 0, 0, 255, 255, 255, 255}, "no size": {0x1c}, "open": {0x1f}, "cut": {0x19, 1}, "empty": {},
		"text": {0x60}, "negative": {0x20}, "trailing": {0x01, 0x02},
	} {
		r := canon.NewReader("it", b, 16)
		r.Uint(math.MaxUint64)
		if err := r.Done(); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStructsAreStrict(t *testing.T) {
	read := func(b []byte) error {
		r := canon.NewReader("it", b, 64)
		r.Struct("struct", 1<<1|1<<2, 1<<3, func(uint64) { r.Uint(9) })
		return r.Done()
	}
	for name, b := range map[string][]byte{
		"required alone": {0xa2, 1, 0, 2, 0}, "with the optional": {0xa3, 1, 0, 2, 0, 3, 0},
	} {
		if err := read(b); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{
		"missing": {0xa1, 1, 0}, "unknown": {0xa3, 1, 0, 2, 0, 4, 0}, "out of order": {0xa2, 2, 0, 1, 0},
		"twice": {0xa3, 1, 0, 1, 0, 2, 0}, "fewer than said": {0xa3, 1, 0, 2, 0}, "more than said": {0xa2, 1, 0, 2, 0, 3, 0},
		"no map": {0x82, 1, 0}, "value too large": {0xa2, 1, 10, 2, 0}, "key past the set": {0xa3, 1, 0, 2, 0, 0x18, 65, 0},
	} {
		if err := read(b); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLengthsAreCapped(t *testing.T) {
	var w canon.Writer
	w.Bytes(make([]byte, 10))
	for limit, want := range map[int]bool{9: false, 10: true} {
		r := canon.NewReader("it", w.B, 64)
		if got := r.Bytes("field", limit); (r.Done() == nil) != want || (len(got) == 10) != want {
			t.Errorf("at most %d: %d bytes, error %v", limit, len(got), r.Done())
		}
	}
	if err := canon.NewReader("it", w.B, len(w.B)-1).Done(); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("a whole past its cap: %v", err)
	}
	huge := []byte{0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	r := canon.NewReader("it", huge, 64)
	if r.Bytes("field", math.MaxInt); !errors.Is(r.Done(), attest.ErrMalformed) {
		t.Errorf("more bytes than there are: %v", r.Done())
	}
	r = canon.NewReader("it", []byte{0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 64)
	if r.Digests("digests", 20); !errors.Is(r.Done(), attest.ErrMalformed) {
		t.Errorf("more digests than allowed: %v", r.Done())
	}
	var exact [4]byte
	r = canon.NewReader("it", []byte{0x43, 1, 2, 3}, 64)
	if r.Exactly("field", exact[:]); !errors.Is(r.Done(), attest.ErrMalformed) {
		t.Errorf("too few bytes: %v", r.Done())
	}
}

// Whatever the reader takes for a number or bytes, the library does too, and
// writes it back the same.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0x18, 24})
	f.Add([]byte{0x42, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := canon.NewReader("it", b, 1<<16)
		n := r.Uint(math.MaxUint64)
		if r.Done() == nil {
			var m uint64
			if err := cbor.Unmarshal(b, &m); err != nil || m != n {
				t.Errorf("%x: %d, the library has %d, error %v", b, n, m, err)
			}
		}
		r = canon.NewReader("it", b, 1<<16)
		got := r.Bytes("field", 1<<16)
		if r.Done() != nil {
			return
		}
		var w canon.Writer
		if w.Bytes(got); !bytes.Equal(w.B, b) {
			t.Errorf("%x is written back as %x", b, w.B)
		}
	})
}
