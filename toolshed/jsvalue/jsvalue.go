// Package jsvalue reads and writes JavaScript values in the form that V8's
// ValueSerializer gives them, as far as JSON and numbers go.
//
// Invariants: what is written here every V8 since 2017 reads; what is read is
// bounded in depth and in the size of its JSON before anything is made of it;
// a value that JSON cannot hold is refused, never bent, but that a property
// without a value is left out and a number that is none is null, as
// JSON.stringify has it.
//
// The form is V8's own (src/objects/value-serializer.cc); what it means is
// HTML's structured clone.
package jsvalue

import (
	"errors"
	"math/big"
)

// MediaType names the form in HTTP.
const MediaType = "application/x-v8"

// maxDepth bounds how deep values may nest.
const maxDepth = 100

// The versions of the form: the one that is written, and those that are read,
// which differ in what is not used here. Deno 2 writes 16.
const (
	version = 15
	oldest  = 13
	newest  = 16
)

// The tags of values.
const (
	tagVersion     = 0xff
	tagPadding     = 0
	tagUndefined   = '_'
	tagNull        = '0'
	tagTrue        = 'T'
	tagFalse       = 'F'
	tagInt32       = 'I'
	tagUint32      = 'U'
	tagDouble      = 'N'
	tagBigInt      = 'Z'
	tagDate        = 'D'
	tagOneByte     = '"'
	tagTwoByte     = 'c'
	tagUTF8        = 'S'
	tagObject      = 'o'
	tagObjectEnd   = '{'
	tagDense       = 'A'
	tagDenseEnd    = '$'
	tagSparse      = 'a'
	tagSparseEnd   = '@'
	tagHole        = '-'
	tagTrueObject  = 'y'
	tagFalseObject = 'x'
	tagNumber      = 'n'
	tagString      = 's'
)

// The sentinels of this package.
var (
	// ErrBroken says that bytes are no value of this form.
	ErrBroken = errors.New("no value in V8's form")
	// ErrNotJSON says that JSON cannot hold the value.
	ErrNotJSON = errors.New("JSON cannot hold this value")
)

// Number is a value that can be added: a number, or a big integer where Big is
// not nil.
type Number struct {
	Float float64
	Big   *big.Int
}
