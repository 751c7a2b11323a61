// Package strictjson reads JSON that has one reader and one meaning.
//
// Invariants: one value, which is not null, and nothing behind it; an object has
// no field that its reader does not know.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// ErrTrailing says that something follows the value, ErrNull that the value is
// null, which would leave everything as it was.
var (
	ErrTrailing = errors.New("something follows the json value")
	ErrNull     = errors.New("the json value is null")
)

// Unmarshal decodes b. Errors are those of encoding/json, ErrNull and
// ErrTrailing.
func Unmarshal(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	// A lone closing brace is an error of its own and no token.
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.Join(ErrTrailing, err)
	}
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		return ErrNull
	}
	return nil
}

// Decode decodes all of r, which the caller has capped. Errors are those of r
// and of Unmarshal.
func Decode(r io.Reader, into any) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return Unmarshal(b, into)
}
