// Package strictjson reads JSON that has one reader and one meaning.
//
// Invariants: one value and nothing behind it; an object has no field that its
// reader does not know.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// ErrTrailing says that something follows the value.
var ErrTrailing = errors.New("something follows the json value")

// Unmarshal decodes b. Errors are those of encoding/json and ErrTrailing.
func Unmarshal(b []byte, into any) error { return Decode(bytes.NewReader(b), into) }

// Decode decodes all of r, which the caller has capped. Errors are those of r
// and of encoding/json, and ErrTrailing.
func Decode(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	// A lone closing brace is an error of its own and no token.
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.Join(ErrTrailing, err)
	}
	return nil
}
