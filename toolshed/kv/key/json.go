package key

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
)

// typedPart is a part that JSON has no type for.
type typedPart struct {
	Bigint *string `json:"bigint,omitempty"`
	Bytes  *[]byte `json:"bytes,omitempty"`
	// Number is one that JSON cannot write: NaN, Infinity, -Infinity, -0.
	Number *string `json:"number,omitempty"`
}

var (
	_ json.Marshaler   = Key(nil)
	_ json.Unmarshaler = (*Key)(nil)
)

// MarshalJSON writes an array of the parts: strings, numbers and booleans as
// they are, others as an object that names the type.
func (k Key) MarshalJSON() ([]byte, error) {
	all := make([]any, len(k))
	for i, part := range k {
		switch v := part.(type) {
		case *big.Int:
			text := v.String()
			all[i] = typedPart{Bigint: &text}
		case []byte:
			all[i] = typedPart{Bytes: &v}
		case float64:
			all[i] = numberJSON(v)
		default:
			all[i] = v
		}
	}
	return json.Marshal(all)
}

func numberJSON(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) || f == 0 && math.Signbit(f) {
		text := formatDouble(f)
		return typedPart{Number: &text}
	}
	return f
}

// UnmarshalJSON reads what MarshalJSON writes.
func (k *Key) UnmarshalJSON(b []byte) error {
	var all []json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("%w: want an array of parts", ErrBroken)
	}
	if len(all) > MaxParts {
		return fmt.Errorf("%w: it has %d parts, at most %d", ErrBroken, len(all), MaxParts)
	}
	parts := make(Key, len(all))
	for i, raw := range all {
		part, err := partFromJSON(raw)
		if err != nil {
			return fmt.Errorf("part %d: %w", i, err)
		}
		parts[i] = part
	}
	*k = parts
	return nil
}

func partFromJSON(raw []byte) (Part, error) {
	if !bytes.HasPrefix(raw, []byte("{")) {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		switch v.(type) {
		case string, float64, bool:
			return v, nil
		}
		return nil, errKind
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	var v typedPart
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", errKind, err)
	}
	switch {
	case v.Bigint != nil && v.Bytes == nil && v.Number == nil:
		return parseInt(*v.Bigint)
	case v.Bigint == nil && v.Bytes != nil && v.Number == nil:
		return *v.Bytes, nil
	case v.Bigint == nil && v.Bytes == nil && v.Number != nil:
		return parseDouble(*v.Number)
	}
	return nil, errKind
}

var errKind = fmt.Errorf(`%w: want a string, a number, a boolean, {"bigint": "1"}, {"bytes": "BASE64"} or {"number": "NaN"}`, ErrBroken)
