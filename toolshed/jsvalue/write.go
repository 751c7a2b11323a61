package jsvalue

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"unicode/utf16"
)

var header = []byte{tagVersion, version}

// FromJSON is the value that JSON holds. Numbers are what JavaScript makes of
// them.
func FromJSON(text []byte) ([]byte, error) {
	if !json.Valid(text) {
		return nil, errors.New("it is no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := read(d, 0)
	if err != nil {
		return nil, err
	}
	w := &writer{out: append(make([]byte, 0, len(text)+16), header...)}
	w.value(v)
	return w.out, nil
}

// Bytes is the number in V8's form.
func (n Number) Bytes() []byte {
	w := &writer{out: append([]byte(nil), header...)}
	if n.Big != nil {
		w.bigInt(n.Big)
	} else {
		w.float(n.Float)
	}
	return w.out
}

// writer appends values.
type writer struct{ out []byte }

func (w *writer) varint(v uint64) { w.out = binary.AppendUvarint(w.out, v) }

func (w *writer) value(v any) {
	switch v := v.(type) {
	case nil:
		w.out = append(w.out, tagNull)
	case bool:
		if v {
			w.out = append(w.out, tagTrue)
		} else {
			w.out = append(w.out, tagFalse)
		}
	case float64:
		w.float(v)
	case string:
		w.text(v)
	case array:
		w.out = append(w.out, tagDense)
		w.varint(uint64(len(v)))
		for _, element := range v {
			w.value(element)
		}
		w.out = append(w.out, tagDenseEnd)
		w.varint(0)
		w.varint(uint64(len(v)))
	case object:
		w.out = append(w.out, tagObject)
		for _, m := range v {
			w.text(m.name)
			w.value(m.value)
		}
		w.out = append(w.out, tagObjectEnd)
		w.varint(uint64(len(v)))
	}
}

func (w *writer) float(f float64) {
	if i := int32(f); float64(i) == f && !(i == 0 && math.Signbit(f)) {
		w.out = append(w.out, tagInt32)
		w.varint(uint64(uint32(i<<1) ^ uint32(i>>31)))
		return
	}
	w.out = append(w.out, tagDouble)
	w.out = binary.LittleEndian.AppendUint64(w.out, math.Float64bits(f))
}

func (w *writer) bigInt(v *big.Int) {
	b := v.Bytes()
	// Digits are words of 64 bits.
	padded := make([]byte, (len(b)+7)/8*8)
	for i, d := range b {
		padded[len(b)-1-i] = d
	}
	field := uint64(len(padded)) << 1
	if v.Sign() < 0 {
		field |= 1
	}
	w.out = append(w.out, tagBigInt)
	w.varint(field)
	w.out = append(w.out, padded...)
}

// text writes a string: in one byte a character where that is enough, else as
// UTF-16 that begins at an even place.
func (w *writer) text(s string) {
	latin := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			w.wide(s)
			return
		}
		latin = append(latin, byte(r))
	}
	w.out = append(w.out, tagOneByte)
	w.varint(uint64(len(latin)))
	w.out = append(w.out, latin...)
}

func (w *writer) wide(s string) {
	units := utf16.Encode([]rune(s))
	length := binary.AppendUvarint(nil, uint64(2*len(units)))
	if (len(w.out)+1+len(length))%2 != 0 {
		w.out = append(w.out, tagPadding)
	}
	w.out = append(append(w.out, tagTwoByte), length...)
	for _, u := range units {
		w.out = binary.LittleEndian.AppendUint16(w.out, u)
	}
}
