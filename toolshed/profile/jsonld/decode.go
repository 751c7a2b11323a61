package jsonld

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
)

// decode reads JSON of bounded nesting, whose numbers are what they say.
func decode(text []byte) (document any, err error) {
	if len(text) > MaxBytes {
		return nil, refused("it has %d bytes, at most %d", len(text), MaxBytes)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	depth := 0
	var names names
	for {
		token, err := d.Token()
		if err != nil {
			return nil, refused("it is no JSON")
		}
		if name, twice := names.take(token); twice {
			return nil, refused("%.100q is there twice in one object", name)
		}
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
			if depth > MaxNesting {
				return nil, refused("it is nested more than %d deep", MaxNesting)
			}
		case json.Number:
			f, err := v.Float64()
			if err != nil || math.Abs(f) >= maxWhole && !strings.ContainsAny(v.String(), ".eE") {
				return nil, refused("the number %.32s is too large: write it as a text with a datatype", v)
			}
		}
		if depth == 0 {
			break
		}
	}
	if d.More() {
		return nil, refused("something follows the document")
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, refused("it is no JSON: %w", err)
	}
	var c contexts
	c.count(document, 0)
	if c.terms > maxTerms || c.scoped > maxScoped {
		return nil, refused("@context: there are %d values in contexts and %d in contexts inside of them, at most %d and %d", c.terms, c.scoped, maxTerms, maxScoped)
	}
	switch document.(type) {
	case map[string]any, []any:
		return document, nil
	}
	return nil, refused("want an object or an array")
}

// names are those of the objects that a place in a document is in; nil is an
// array's.
type names []map[string]bool

// take takes the next token, and answers the name that it gives again. Each
// name is kept with a sign behind it, so that none is like waiting.
func (n *names) take(token json.Token) (name string, twice bool) {
	top := len(*n) - 1
	if top >= 0 && (*n)[top] != nil && !(*n)[top][waiting] {
		if text, is := token.(string); is {
			twice = (*n)[top][text+"="]
			(*n)[top][text+"="], (*n)[top][waiting] = true, true
			return text, twice
		}
	}
	switch token {
	case json.Delim('{'):
		*n = append(*n, map[string]bool{})
		return "", false
	case json.Delim('['):
		*n = append(*n, nil)
		return "", false
	case json.Delim('}'), json.Delim(']'):
		*n = (*n)[:top]
		top--
	}
	if top >= 0 && (*n)[top] != nil {
		(*n)[top][waiting] = false
	}
	return "", false
}

// waiting marks an object whose last name has no value yet.
const waiting = ""

// contexts counts the values that stand in contexts.
type contexts struct{ terms, scoped int }

func (c *contexts) count(v any, inside int) {
	if inside > 0 {
		c.terms++
	}
	if inside > 1 {
		c.scoped++
	}
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			c.count(one, inside)
		}
	case map[string]any:
		for key, one := range v {
			if key == "@context" {
				c.count(one, inside+1)
			} else {
				c.count(one, inside)
			}
		}
	}
}

// values counts the facts that an expanded document makes before those that are
// the same are one; each is what one value among some makes by itself.
func values(v any, each int) (n int) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			n += each + values(one, 0)
		}
	case map[string]any:
		for key, one := range v {
			switch key {
			case "@id", "@index", "@value":
			case "@graph", "@included", "@reverse":
				n += values(one, 0)
			case "@list":
				n += values(one, 2)
			default:
				n += values(one, 1)
			}
		}
	}
	return n
}
