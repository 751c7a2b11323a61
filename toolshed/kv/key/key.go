// Package key is the keys of the key-value store: parts of five types, in
// Deno's order.
//
// Invariants: encoded keys sort, as bytes, as their parts do: bytes before
// strings before big integers before numbers before booleans; a key has one
// encoding and one text; whatever is decoded, in either form, is bounded, and
// encodes to what it was.
package key

import "errors"

// MaxBytes bounds an encoded key, as Deno does.
const MaxBytes = 2048

// MaxParts bounds the parts of a key.
const MaxParts = 256

// ErrBroken says that something is no key.
var ErrBroken = errors.New("no key")

// Part is one of string, []byte, float64, *big.Int and bool.
type Part any

// Key is the parts of a key.
type Key []Part

// Of is a key of one string.
func Of(text string) Key { return Key{text} }

// After is the least encoded key that is greater than one.
func After(encoded []byte) []byte {
	return append(append(make([]byte, 0, len(encoded)+1), encoded...), 0)
}

// Prefix is the range of keys that begin with the parts and have more: from
// start on, before end. No part's encoding begins with a 0 or a 255.
func Prefix(encoded []byte) (start, end []byte) {
	start = After(encoded)
	end = append(append(make([]byte, 0, len(encoded)+1), encoded...), 0xff)
	return start, end
}
