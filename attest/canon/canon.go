// Package canon is the one CBOR dialect of attestation: deterministic on the
// way out (RFC 8949, section 4.2.1) and on the way in refused unless it
// encodes back to the same bytes.
//
// Invariant: digests and signatures are taken over these bytes, so two
// encodings of one value never both decode.
package canon

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/toolshed-cloud/shed/attest"
)

var (
	encMode = must(cbor.CoreDetEncOptions().UserBufferEncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxArrayElements:  1024,
		MaxMapPairs:       64,
		MaxNestedLevels:   8,
	}.DecMode())
)

// buffers are for encodings that are compared and thrown away: evidence has
// some 50 KiB of them.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// must is for modes built from constants: an error there is a bug in this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Marshal encodes v.
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// Unmarshal decodes at most limit bytes into v. name says what they are, for
// the error, which wraps attest.ErrMalformed.
func Unmarshal[T any](name string, b []byte, limit int, v *T) error {
	if len(b) > limit {
		return fmt.Errorf("%w: %s has %d bytes, at most %d", attest.ErrMalformed, name, len(b), limit)
	}
	if err := decMode.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
	}
	again := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(again)
	again.Reset()
	if err := encMode.MarshalToBuffer(v, again); err != nil {
		return fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
	}
	if !bytes.Equal(again.Bytes(), b) {
		return fmt.Errorf("%w: %s is not deterministically encoded", attest.ErrMalformed, name)
	}
	return nil
}
