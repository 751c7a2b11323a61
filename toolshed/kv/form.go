package kv

import (
	"encoding/json"
	"fmt"
	"math/big"
	"mime"
	"strconv"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/jsvalue"
	"github.com/toolshed-cloud/shed/toolshed/kv/key"
)

// The media types of values, beside V8's own.
const (
	mediaBytes = "application/octet-stream"
	mediaJSON  = "application/json"
)

// received reads a value from a request.
func received(body []byte, contentType, encoding string) (Value, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		kind = ""
	}
	switch {
	case encoding == "u64":
		n, err := strconv.ParseUint(string(body), 10, 64)
		if err != nil {
			return Value{}, fmt.Errorf("%w: want an unsigned integer of 64 bits in decimal digits", ErrInvalid)
		}
		return U64Value(n), nil
	case kind == jsvalue.MediaType:
		return Value{Encoding: V8, Data: body}, nil
	case kind == mediaJSON && encoding != "bytes", encoding == "v8":
		return JSONValue(body)
	}
	return BytesValue(body), nil
}

// shown is a value as it is answered: JSON where that is possible, V8's own form
// where it is not or is asked for.
func shown(v Value, raw bool) (contentType string, body []byte) {
	switch v.Encoding {
	case U64:
		return mediaJSON, strconv.AppendUint(nil, v.U64(), 10)
	case V8:
		if text, err := jsvalue.ToJSON(v.Data); err == nil && !raw {
			return mediaJSON, text
		}
		return jsvalue.MediaType, v.Data
	}
	return mediaBytes, v.Data
}

func encodingName(v Value) string {
	return map[Encoding]string{V8: "v8", U64: "u64", Bytes: "bytes"}[v.Encoding]
}

// ValueJSON is a value in JSON: one of its fields is there.
type ValueJSON struct {
	JSON   json.RawMessage `json:"value,omitempty" doc:"a JavaScript value that JSON can hold"`
	Bytes  *[]byte         `json:"bytes,omitempty" doc:"bytes, in base64"`
	U64    *string         `json:"u64,omitempty" maxLength:"20" doc:"an unsigned integer of 64 bits, in decimal digits"`
	Bigint *string         `json:"bigint,omitempty" maxLength:"5000" doc:"a JavaScript bigint, in decimal digits"`
	V8     *[]byte         `json:"v8,omitempty" doc:"any other JavaScript value, in V8's form, in base64"`
}

func valueJSON(v Value) (j ValueJSON) {
	switch v.Encoding {
	case Bytes:
		data := notNil(v.Data)
		j.Bytes = &data
	case U64:
		text := strconv.FormatUint(v.U64(), 10)
		j.U64 = &text
	default:
		if text, err := jsvalue.ToJSON(v.Data); err == nil {
			j.JSON = text
		} else if n, err := jsvalue.ReadNumber(v.Data); err == nil && n.Big != nil {
			text := n.Big.String()
			j.Bigint = &text
		} else {
			j.V8 = &v.Data
		}
	}
	return j
}

// value reads the one field that is there; ok is whether there is any.
func (j ValueJSON) value() (v Value, ok bool, err error) {
	var found []Value
	if j.JSON != nil {
		if v, err = JSONValue(j.JSON); err != nil {
			return v, true, fmt.Errorf("value: %w", err)
		}
		found = append(found, v)
	}
	if j.Bytes != nil {
		found = append(found, BytesValue(*j.Bytes))
	}
	if j.U64 != nil {
		n, err := strconv.ParseUint(*j.U64, 10, 64)
		if err != nil {
			return v, true, fmt.Errorf("u64: %w: want an unsigned integer of 64 bits", ErrInvalid)
		}
		found = append(found, U64Value(n))
	}
	if j.Bigint != nil {
		n, err := parseBigint(*j.Bigint)
		if err != nil {
			return v, true, fmt.Errorf("bigint: %w", err)
		}
		found = append(found, Value{Encoding: V8, Data: n.Bytes()})
	}
	if j.V8 != nil {
		found = append(found, Value{Encoding: V8, Data: *j.V8})
	}
	switch len(found) {
	case 0:
		return Value{}, false, nil
	case 1:
		return found[0], true, nil
	}
	return Value{}, true, fmt.Errorf("%w: want one of value, bytes, u64, bigint and v8", ErrInvalid)
}

// EntryJSON is an entry in JSON.
type EntryJSON struct {
	Key          key.Key    `json:"key" doc:"its parts; a string, number or boolean as it is, others as {\"bigint\": \"1\"} or {\"bytes\": \"BASE64\"}"`
	Path         string     `json:"path" doc:"the key as it stands behind /api/kv/"`
	Versionstamp string     `json:"versionstamp"`
	UpdatedAt    time.Time  `json:"updated_at"`
	ExpiresAt    *time.Time `json:"expires_at,omitempty"`
	Encoding     string     `json:"encoding" enum:"v8,u64,bytes"`
	Size         int        `json:"size_bytes"`
	ValueJSON
}

func entryJSON(e Entry, values bool) (EntryJSON, error) {
	k, err := key.Decode(e.Key)
	if err != nil {
		return EntryJSON{}, fmt.Errorf("reading a kept key: %w", err)
	}
	j := EntryJSON{
		Key: k, Path: k.Text(), Versionstamp: Versionstamp(e.Version), UpdatedAt: e.UpdatedAt,
		Encoding: encodingName(e.Value), Size: len(e.Value.Data),
	}
	if !e.ExpiresAt.IsZero() {
		j.ExpiresAt = &e.ExpiresAt
	}
	if values {
		j.ValueJSON = valueJSON(e.Value)
	}
	return j, nil
}

func parseBigint(s string) (jsvalue.Number, error) {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return jsvalue.Number{}, fmt.Errorf("%w: want decimal digits", ErrInvalid)
	}
	return jsvalue.Number{Big: n}, nil
}
