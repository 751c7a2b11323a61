package jsvalue

import (
	"encoding/json"
	"fmt"
	"math"
)

// JSON as it is read: an object keeps the order of its members, as JavaScript
// does.
type (
	array  []any
	object []member
	member struct {
		name  string
		value any
	}
)

// read reads the next value of JSON that is known to be well-formed.
func read(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("it is nested more than %d deep", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("reading JSON: %w", err)
	}
	switch v := t.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil && !math.IsInf(f, 0) {
			return nil, fmt.Errorf("number %.40s: %w", v, err)
		}
		return f, nil
	case json.Delim:
		if v == '{' {
			return readObject(d, depth)
		}
		return readArray(d, depth)
	}
	return t, nil
}

func readArray(d *json.Decoder, depth int) (any, error) {
	all := array{}
	for d.More() {
		v, err := read(d, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	_, err := d.Token()
	return all, err
}

func readObject(d *json.Decoder, depth int) (any, error) {
	all := object{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("reading JSON: %w", err)
		}
		v, err := read(d, depth+1)
		if err != nil {
			return nil, err
		}
		all = append(all, member{name: name.(string), value: v})
	}
	_, err := d.Token()
	return all, err
}
