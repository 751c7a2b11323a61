package key

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"unicode/utf8"
)

// The tags of parts: those of FoundationDB's tuple layer that Deno uses.
const (
	tagBytes    = 0x01
	tagString   = 0x02
	tagNegative = 0x0b
	tagZero     = 0x14
	tagPositive = 0x1d
	tagDouble   = 0x21
	tagFalse    = 0x26
	tagTrue     = 0x27
)

// smallInt is the bytes of an integer whose length is in its tag.
const smallInt = 8

// Encode writes a key as it is stored. The error is ErrBroken where it is
// empty, too long, or has a part of another type.
func (k Key) Encode() ([]byte, error) {
	if len(k) == 0 {
		return nil, fmt.Errorf("%w: it has no parts", ErrBroken)
	}
	b, err := k.EncodePrefix()
	if err == nil && len(b) > MaxBytes {
		err = fmt.Errorf("%w: it takes %d bytes, at most %d", ErrBroken, len(b), MaxBytes)
	}
	return b, err
}

// EncodePrefix is Encode for what keys begin with, which may be nothing.
func (k Key) EncodePrefix() (b []byte, err error) {
	if len(k) > MaxParts {
		return nil, fmt.Errorf("%w: it has %d parts, at most %d", ErrBroken, len(k), MaxParts)
	}
	for i, part := range k {
		if b, err = appendPart(b, part); err != nil {
			return nil, fmt.Errorf("part %d: %w", i, err)
		}
	}
	return b, nil
}

func appendPart(b []byte, part Part) ([]byte, error) {
	switch v := part.(type) {
	case string:
		if !utf8.ValidString(v) {
			return nil, fmt.Errorf("%w: it is not UTF-8", ErrBroken)
		}
		return appendEscaped(append(b, tagString), []byte(v)), nil
	case []byte:
		return appendEscaped(append(b, tagBytes), v), nil
	case float64:
		return appendDouble(b, v), nil
	case *big.Int:
		return appendInt(b, v)
	case bool:
		if v {
			return append(b, tagTrue), nil
		}
		return append(b, tagFalse), nil
	}
	return nil, fmt.Errorf("%w: a part of type %T", ErrBroken, part)
}

// appendEscaped ends with a zero, and writes one within as 0, 255.
func appendEscaped(b, text []byte) []byte {
	for _, c := range text {
		b = append(b, c)
		if c == 0 {
			b = append(b, 0xff)
		}
	}
	return append(b, 0)
}

// appendDouble turns the bits so that they sort: all of a negative number's,
// the sign of another. There are two NaN, one of each sign.
func appendDouble(b []byte, f float64) []byte {
	bits := math.Float64bits(f)
	if math.IsNaN(f) {
		bits = bits&(1<<63) | 0x7ff8<<48
	}
	if bits>>63 != 0 {
		bits = ^bits
	} else {
		bits ^= 1 << 63
	}
	return binary.BigEndian.AppendUint64(append(b, tagDouble), bits)
}

func appendInt(b []byte, v *big.Int) ([]byte, error) {
	if v == nil {
		return nil, fmt.Errorf("%w: an integer is missing", ErrBroken)
	}
	digits := v.Bytes()
	n := len(digits)
	if n > math.MaxUint8 {
		return nil, fmt.Errorf("%w: an integer of %d bytes, at most %d", ErrBroken, n, math.MaxUint8)
	}
	switch v.Sign() {
	case 0:
		return append(b, tagZero), nil
	case 1:
		if n <= smallInt {
			b = append(b, byte(tagZero+n))
		} else {
			b = append(b, tagPositive, byte(n))
		}
		return append(b, digits...), nil
	}
	if n <= smallInt {
		b = append(b, byte(tagZero-n))
	} else {
		b = append(b, tagNegative, ^byte(n))
	}
	for _, d := range digits {
		b = append(b, ^d)
	}
	return b, nil
}
