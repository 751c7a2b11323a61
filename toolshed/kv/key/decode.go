package key

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"unicode/utf8"
)

// Decode reads an encoded key. What encodes otherwise than it was is refused.
func Decode(encoded []byte) (Key, error) {
	if len(encoded) > MaxBytes {
		return nil, fmt.Errorf("%w: it takes %d bytes, at most %d", ErrBroken, len(encoded), MaxBytes)
	}
	var k Key
	for rest := encoded; len(rest) > 0; {
		part, n, err := decodePart(rest)
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", len(k), err)
		}
		k, rest = append(k, part), rest[n:]
	}
	again, err := k.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, encoded) {
		return nil, fmt.Errorf("%w: it is not in its one form", ErrBroken)
	}
	return k, nil
}

var errCut = fmt.Errorf("%w: it is cut off", ErrBroken)

// decodePart reads the first part, and says how long it is.
func decodePart(b []byte) (part Part, n int, err error) {
	switch tag := b[0]; {
	case tag == tagString, tag == tagBytes:
		text, n, err := decodeEscaped(b[1:])
		if err != nil || tag == tagBytes {
			return text, n + 1, err
		}
		if !utf8.Valid(text) {
			return nil, 0, fmt.Errorf("%w: it is not UTF-8", ErrBroken)
		}
		return string(text), n + 1, nil
	case tag == tagDouble:
		if len(b) < 9 {
			return nil, 0, errCut
		}
		bits := binary.BigEndian.Uint64(b[1:])
		if bits>>63 != 0 {
			bits ^= 1 << 63
		} else {
			bits = ^bits
		}
		return math.Float64frombits(bits), 9, nil
	case tag == tagFalse, tag == tagTrue:
		return tag == tagTrue, 1, nil
	case tag >= tagNegative && tag <= tagPositive:
		return decodeInt(b)
	}
	return nil, 0, fmt.Errorf("%w: a part has the tag %#x", ErrBroken, b[0])
}

func decodeEscaped(b []byte) (text []byte, n int, err error) {
	text = []byte{}
	for i := 0; i < len(b); i++ {
		if b[i] == 0 {
			if i+1 == len(b) || b[i+1] != 0xff {
				return text, i + 1, nil
			}
			i++
			text = append(text, 0)
			continue
		}
		text = append(text, b[i])
	}
	return nil, 0, errCut
}

func decodeInt(b []byte) (*big.Int, int, error) {
	n, at := int(b[0])-tagZero, 1
	negative := n < 0
	if b[0] == tagPositive || b[0] == tagNegative {
		if len(b) < 2 {
			return nil, 0, errCut
		}
		n, at = int(b[1]), 2
		if negative {
			n = int(^b[1])
		}
	} else if negative {
		n = -n
	}
	if len(b) < at+n {
		return nil, 0, errCut
	}
	digits := bytes.Clone(b[at : at+n])
	if negative {
		for i := range digits {
			digits[i] = ^digits[i]
		}
	}
	v := new(big.Int).SetBytes(digits)
	if negative {
		v.Neg(v)
	}
	return v, at + n, nil
}
