package canon_test

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// A digest is over the bytes: what encodes to others than it was read from
// would have two.
func TestUnmarshalReadsOneEncoding(t *testing.T) {
	type value struct {
		One uint64 `cbor:"1,keyasint"`
		Two []byte `cbor:"2,keyasint,omitempty"`
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"the one":           {[]byte{0xa2, 1, 7, 2, 0x41, 9}, nil},
		"without the empty": {[]byte{0xa1, 1, 7}, nil},
		"long number":       {[]byte{0xa1, 1, 0x18, 7}, attest.ErrMalformed},
		"long length":       {[]byte{0xa2, 1, 7, 2, 0x58, 1, 9}, attest.ErrMalformed},
		"out of order":      {[]byte{0xa2, 2, 0x41, 9, 1, 7}, attest.ErrMalformed},
		"empty and there":   {[]byte{0xa2, 1, 7, 2, 0x40}, attest.ErrMalformed},
		"left out":          {[]byte{0xa0}, attest.ErrMalformed},
		"twice":             {[]byte{0xa2, 1, 7, 1, 7}, attest.ErrMalformed},
		"unknown":           {[]byte{0xa2, 1, 7, 3, 7}, attest.ErrMalformed},
		"tagged":            {[]byte{0xc1, 0xa1, 1, 7}, attest.ErrMalformed},
		"open length":       {[]byte{0xbf, 1, 7, 0xff}, attest.ErrMalformed},
		"trailing":          {[]byte{0xa1, 1, 7, 0}, attest.ErrMalformed},
		"too large":         {[]byte{0xa2, 1, 7, 2, 0x42, 9, 9}, attest.ErrMalformed},
	} {
		var v value
		if err := canon.Unmarshal("it", c.b, 6, &v); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
