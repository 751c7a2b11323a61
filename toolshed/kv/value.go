package kv

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/jsvalue"
)

// Encoding is how a value's bytes are read, numbered as KV Connect does.
type Encoding int

// The encodings.
const (
	// V8 is a JavaScript value in the form of package jsvalue.
	V8 Encoding = 1
	// U64 is an unsigned integer, in eight bytes from the lowest.
	U64 Encoding = 2
	// Bytes is a Uint8Array.
	Bytes Encoding = 3
)

// Value is what a key holds.
type Value struct {
	Encoding Encoding
	Data     []byte
}

// BytesValue is bytes as they are.
func BytesValue(b []byte) Value { return Value{Encoding: Bytes, Data: b} }

// U64Value is an unsigned integer.
func U64Value(v uint64) Value {
	return Value{Encoding: U64, Data: binary.LittleEndian.AppendUint64(nil, v)}
}

// JSONValue is what JSON holds. The error is ErrInvalid where it holds nothing.
func JSONValue(text []byte) (Value, error) {
	b, err := jsvalue.FromJSON(text)
	if err != nil {
		return Value{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return Value{Encoding: V8, Data: b}, nil
}

// U64 is the integer of a value of that encoding.
func (v Value) U64() uint64 { return binary.LittleEndian.Uint64(v.Data) }

// check refuses what is too long or not of its encoding.
func (v Value) check() error {
	switch {
	case len(v.Data) > MaxValueBytes:
		return fmt.Errorf("%w: a value has %d bytes, at most %d", ErrTooLarge, len(v.Data), MaxValueBytes)
	case v.Encoding != V8 && v.Encoding != U64 && v.Encoding != Bytes:
		return fmt.Errorf("%w: encoding %d", ErrInvalid, v.Encoding)
	case v.Encoding == U64 && len(v.Data) != 8:
		return fmt.Errorf("%w: an integer of %d bytes, want 8", ErrInvalid, len(v.Data))
	}
	return nil
}

// never is the time at which what does not expire does. One that is unwritable,
// from the year 10000 on (RFC 3339, section 1), is shown as never too.
const (
	never      = math.MaxInt64
	unwritable = 253402300800000
)

// Entry is one key with its value.
type Entry struct {
	// Key is encoded.
	Key   []byte
	Value Value
	// Version is positive, grows with each write of the store, and is never
	// used again, not even after a delete.
	Version   int64
	UpdatedAt time.Time
	// ExpiresAt is zero for never.
	ExpiresAt time.Time
}

// versionstampBytes is the length of a version as KV Connect has it: eight
// bytes from the highest, and two that are zero.
const versionstampBytes = 10

func versionstamp(version int64) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, versionstampBytes), uint64(version)), 0, 0)
}

// Versionstamp is a version as text.
func Versionstamp(version int64) string { return hex.EncodeToString(versionstamp(version)) }

// versionOf reads a versionstamp. One of another store's is a version that no
// key has; an empty one is 0, which stands for a missing key.
func versionOf(stamp []byte) (int64, error) {
	switch {
	case len(stamp) == 0:
		return 0, nil
	case len(stamp) != versionstampBytes:
		return 0, fmt.Errorf("%w: a versionstamp has %d bytes, want %d", ErrInvalid, len(stamp), versionstampBytes)
	}
	version := binary.BigEndian.Uint64(stamp)
	if stamp[8] != 0 || stamp[9] != 0 || version == 0 || version > math.MaxInt64 {
		return -1, nil
	}
	return int64(version), nil
}

// ParseVersionstamp reads a version's text; null is "".
func ParseVersionstamp(text string) (int64, error) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return 0, fmt.Errorf("%w: a versionstamp is 20 hexadecimal digits", ErrInvalid)
	}
	return versionOf(b)
}
