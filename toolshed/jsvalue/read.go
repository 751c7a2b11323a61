package jsvalue

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDigits bounds the bytes of a big integer, as JavaScript does in practice.
const maxDigits = 1 << 16

// reader reads one value.
type reader struct {
	all []byte
	at  int
}

// open reads the header.
func open(b []byte) (*reader, error) {
	r := &reader{all: b}
	first, err := r.next()
	if err != nil || first != tagVersion {
		return nil, fmt.Errorf("%w: it does not begin with a version", ErrBroken)
	}
	v, err := r.varint()
	if err != nil {
		return nil, err
	}
	if v < oldest || v > newest {
		return nil, fmt.Errorf("%w: version %d, want %d to %d", ErrBroken, v, oldest, newest)
	}
	return r, nil
}

func (r *reader) next() (byte, error) {
	if r.at >= len(r.all) {
		return 0, fmt.Errorf("%w: it is cut off", ErrBroken)
	}
	b := r.all[r.at]
	r.at++
	return b, nil
}

// tag is the next one, behind padding.
func (r *reader) tag() (byte, error) {
	for {
		t, err := r.next()
		if err != nil || t != tagPadding {
			return t, err
		}
	}
}

func (r *reader) peek() (byte, error) {
	t, err := r.tag()
	if err == nil {
		r.at--
	}
	return t, err
}

func (r *reader) varint() (uint64, error) {
	v, n := binary.Uvarint(r.all[r.at:])
	if n <= 0 || v > math.MaxUint32 {
		return 0, fmt.Errorf("%w: a number is cut off or too large", ErrBroken)
	}
	r.at += n
	return v, nil
}

func (r *reader) bytes(n uint64) ([]byte, error) {
	if n > uint64(len(r.all)-r.at) {
		return nil, fmt.Errorf("%w: it is cut off", ErrBroken)
	}
	b := r.all[r.at : r.at+int(n)]
	r.at += int(n)
	return b, nil
}

func (r *reader) double() (float64, error) {
	b, err := r.bytes(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
}

// number reads what stands behind a number's tag.
func (r *reader) number(tag byte) (float64, error) {
	switch tag {
	case tagInt32:
		v, err := r.varint()
		// The zigzag form: the sign is the lowest bit.
		return float64(int32(uint32(v)>>1) ^ -int32(v&1)), err
	case tagUint32:
		v, err := r.varint()
		return float64(v), err
	}
	return r.double()
}

func (r *reader) bigInt() (*big.Int, error) {
	field, err := r.varint()
	if err != nil {
		return nil, err
	}
	n := field >> 1
	if n > maxDigits {
		return nil, fmt.Errorf("%w: an integer of %d bytes", ErrBroken, n)
	}
	b, err := r.bytes(n)
	if err != nil {
		return nil, err
	}
	turned := make([]byte, len(b))
	for i, d := range b {
		turned[len(b)-1-i] = d
	}
	v := new(big.Int).SetBytes(turned)
	if field&1 != 0 {
		v.Neg(v)
	}
	return v, nil
}

// text reads what stands behind a string's tag.
func (r *reader) text(tag byte) (string, error) {
	n, err := r.varint()
	if err != nil {
		return "", err
	}
	b, err := r.bytes(n)
	if err != nil {
		return "", err
	}
	switch tag {
	case tagOneByte:
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		return string(runes), nil
	case tagTwoByte:
		if len(b)%2 != 0 {
			return "", fmt.Errorf("%w: half a character", ErrBroken)
		}
		units := make([]uint16, len(b)/2)
		for i := range units {
			units[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		return string(utf16.Decode(units)), nil
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%w: a string is not UTF-8", ErrBroken)
	}
	return string(b), nil
}

// ReadNumber reads a number or big integer. The error is ErrBroken where the
// value is something else.
func ReadNumber(b []byte) (Number, error) {
	r, err := open(b)
	if err != nil {
		return Number{}, err
	}
	tag, err := r.tag()
	if err != nil {
		return Number{}, err
	}
	switch tag {
	case tagInt32, tagUint32, tagDouble:
		f, err := r.number(tag)
		return Number{Float: f}, err
	case tagBigInt:
		v, err := r.bigInt()
		return Number{Big: v}, err
	}
	return Number{}, fmt.Errorf("%w: want a number or a bigint", ErrBroken)
}
