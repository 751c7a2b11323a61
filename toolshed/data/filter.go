package data

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The bounds of a filter.
const (
	maxClauses     = 200
	maxFilterBytes = 64 << 10
)

// validPath is names with points between; a number is a place in an array.
var validPath = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,63}(\.([A-Za-z_][A-Za-z0-9_-]{0,63}|[0-9]{1,6})){0,15}$`)

// jsonPath is a checked path in SQLite's words, as a literal: an index is used
// only where a query has the expression that it was made with.
func jsonPath(path string) string {
	var b strings.Builder
	b.WriteString("'$")
	for step := range strings.SplitSeq(path, ".") {
		if step[0] >= '0' && step[0] <= '9' {
			b.WriteString("[" + step + "]")
		} else {
			b.WriteString(`."` + step + `"`)
		}
	}
	return b.String() + "'"
}

func valueAt(path string) string { return "json_extract(body, " + jsonPath(path) + ")" }
func typeAt(path string) string  { return "json_type(body, " + jsonPath(path) + ")" }

// condition is SQL with what is bound to it.
type condition struct {
	sql     strings.Builder
	args    []any
	clauses int
}

// compileFilter turns a filter in MongoDB's words into a condition on a
// document. Errors are a *FieldError.
func compileFilter(text []byte) (*condition, error) {
	c := &condition{}
	if len(text) == 0 {
		text = []byte("{}")
	}
	if len(text) > maxFilterBytes {
		return nil, refused("filter", "has %d bytes, at most %d", len(text), maxFilterBytes)
	}
	if err := checkJSON(text); err != nil {
		return nil, &FieldError{"filter", err}
	}
	return c, c.all("filter", text)
}

func (c *condition) count(field string) error {
	if c.clauses++; c.clauses > maxClauses {
		return refused(field, "is beyond the %d clauses that a filter may have", maxClauses)
	}
	return nil
}

// all is an object whose entries all hold.
func (c *condition) all(field string, text []byte) error {
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil || entries == nil {
		return refused(field, "want an object")
	}
	c.sql.WriteString("(1")
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		c.sql.WriteString(" AND ")
		at := field + "." + key
		if err := c.count(at); err != nil {
			return err
		}
		var err error
		switch {
		case key == "$and" || key == "$or" || key == "$nor":
			err = c.several(at, key, entries[key])
		case validPath.MatchString(key):
			err = c.path(at, key, entries[key])
		default:
			err = refused(fmt.Sprintf("%s.%.80q", field, key), "want a path of names with points between, $and, $or or $nor")
		}
		if err != nil {
			return err
		}
	}
	c.sql.WriteString(")")
	return nil
}

func (c *condition) several(field, key string, text []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil || len(parts) == 0 {
		return refused(field, "want an array of filters")
	}
	between, after := " OR ", ")"
	switch key {
	case "$and":
		between = " AND "
	case "$nor":
		after = ") IS NOT TRUE"
	}
	c.sql.WriteString("(")
	for i, p := range parts {
		if i > 0 {
			c.sql.WriteString(between)
		}
		if err := c.all(fmt.Sprintf("%s[%d]", field, i), p); err != nil {
			return err
		}
	}
	c.sql.WriteString(after)
	return nil
}

// path is what holds of the value at a path: operators, or a value that it is.
func (c *condition) path(field, path string, text []byte) error {
	var operators map[string]json.RawMessage
	if json.Unmarshal(text, &operators) != nil || operators == nil || !isOperators(operators) {
		return c.equal(field, path, text)
	}
	c.sql.WriteString("(1")
	for _, op := range slices.Sorted(maps.Keys(operators)) {
		c.sql.WriteString(" AND ")
		if err := c.operator(field+"."+op, path, op, operators[op]); err != nil {
			return err
		}
	}
	c.sql.WriteString(")")
	return nil
}

func isOperators(m map[string]json.RawMessage) bool {
	for key := range m {
		if strings.HasPrefix(key, "$") {
			return true
		}
	}
	return false
}

var comparisons = map[string]string{"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}

func (c *condition) operator(field, path, op string, text []byte) error {
	if err := c.count(field); err != nil {
		return err
	}
	switch op {
	case "$eq":
		return c.equal(field, path, text)
	case "$ne":
		return c.not(func() error { return c.equal(field, path, text) })
	case "$in":
		return c.anyOf(field, path, text)
	case "$nin":
		return c.not(func() error { return c.anyOf(field, path, text) })
	case "$not":
		return c.not(func() error { return c.path(field, path, text) })
	case "$exists":
		var there bool
		if json.Unmarshal(text, &there) != nil || string(text) == "null" {
			return refused(field, "want true or false")
		}
		c.sql.WriteString(typeAt(path) + map[bool]string{true: " IS NOT NULL", false: " IS NULL"}[there])
		return nil
	case "$size":
		var n uint32
		if json.Unmarshal(text, &n) != nil || string(text) == "null" {
			return refused(field, "want a number that is not negative")
		}
		c.sql.WriteString("(" + typeAt(path) + " = 'array' AND json_array_length(body, " + jsonPath(path) + ") = ?)")
		c.args = append(c.args, n)
		return nil
	case "$all":
		return c.contains(field, path, text)
	}
	if comparison, ok := comparisons[op]; ok {
		return c.compare(field, path, comparison, text)
	}
	return refused(fmt.Sprintf("%.200s", field), "is no operator that is known: $eq $ne $gt $gte $lt $lte $in $nin $exists $all $size $not")
}

// not holds where a condition does not, a missing value included.
func (c *condition) not(inner func() error) error {
	c.sql.WriteString("(")
	err := inner()
	c.sql.WriteString(") IS NOT TRUE")
	return err
}

func (c *condition) equal(field, path string, text []byte) error {
	value, kind, err := scalar(text)
	if err != nil {
		return &FieldError{field, err}
	}
	x, t := valueAt(path), typeAt(path)
	switch kind {
	case "null":
		c.sql.WriteString("(" + t + " IS NULL OR " + t + " = 'null')")
		return nil
	case "true", "false":
		c.sql.WriteString(t + " = '" + kind + "'")
		return nil
	case "number":
		c.sql.WriteString("(" + x + " = ? AND " + t + " IN ('integer', 'real'))")
	case "text":
		c.sql.WriteString("(" + x + " = ? AND " + t + " = 'text')")
	default:
		c.sql.WriteString("(" + x + " = json(?) AND " + t + " = '" + kind + "')")
	}
	c.args = append(c.args, value)
	return nil
}

func (c *condition) compare(field, path, comparison string, text []byte) error {
	value, kind, err := scalar(text)
	if err != nil {
		return &FieldError{field, err}
	}
	of := map[string]string{"number": "IN ('integer', 'real')", "text": "= 'text'"}[kind]
	if of == "" {
		return refused(field, "want a number or text: other values have no order")
	}
	c.sql.WriteString("(" + valueAt(path) + " " + comparison + " ? AND " + typeAt(path) + " " + of + ")")
	c.args = append(c.args, value)
	return nil
}

func (c *condition) anyOf(field, path string, text []byte) error {
	var values []json.RawMessage
	if json.Unmarshal(text, &values) != nil || values == nil {
		return refused(field, "want an array of values")
	}
	c.sql.WriteString("(0")
	for i, v := range values {
		at := fmt.Sprintf("%s[%d]", field, i)
		if err := c.count(at); err != nil {
			return err
		}
		c.sql.WriteString(" OR ")
		if err := c.equal(at, path, v); err != nil {
			return err
		}
	}
	c.sql.WriteString(")")
	return nil
}

// contains is an array that has all of some values.
func (c *condition) contains(field, path string, text []byte) error {
	var values []json.RawMessage
	if json.Unmarshal(text, &values) != nil || values == nil {
		return refused(field, "want an array of values")
	}
	c.sql.WriteString("(" + typeAt(path) + " = 'array'")
	for i, v := range values {
		at := fmt.Sprintf("%s[%d]", field, i)
		if err := c.count(at); err != nil {
			return err
		}
		value, kind, err := scalar(v)
		if err != nil {
			return &FieldError{at, err}
		}
		of := map[string]string{"number": "e.type IN ('integer', 'real')", "text": "e.type = 'text'"}[kind]
		if of == "" {
			return refused(at, "want a number or text")
		}
		c.sql.WriteString(" AND EXISTS (SELECT 1 FROM json_each(body, " + jsonPath(path) + ") AS e WHERE e.value = ? AND " + of + ")")
		c.args = append(c.args, value)
	}
	c.sql.WriteString(")")
	return nil
}

// scalar is a JSON value as SQLite has it, and its type.
func scalar(text []byte) (value any, kind string, err error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, "", errors.New("want a value")
	}
	switch text[0] {
	case 'n':
		return nil, "null", nil
	case 't':
		return nil, "true", nil
	case 'f':
		return nil, "false", nil
	case '"':
		var s string
		err := json.Unmarshal(text, &s)
		return s, "text", err
	case '{':
		return string(text), "object", nil
	case '[':
		return string(text), "array", nil
	}
	n := json.Number(text)
	if i, err := n.Int64(); err == nil {
		return i, "number", nil
	}
	f, err := n.Float64()
	return f, "number", err
}

// checkJSON sees that text is one JSON value, not nested too deep, with no key
// twice in an object.
func checkJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	// keys are those of each object around; nil for an array.
	var keys []map[string]bool
	wantKey := false
	for {
		token, err := d.Token()
		if err != nil {
			return errors.New("it is no JSON")
		}
		top := len(keys) - 1
		switch v := token.(type) {
		case json.Delim:
			switch v {
			case '{':
				keys, wantKey = append(keys, map[string]bool{}), true
			case '[':
				keys, wantKey = append(keys, nil), false
			default:
				keys = keys[:top]
				wantKey = top > 0 && keys[top-1] != nil
			}
			if len(keys) > MaxNesting {
				return fmt.Errorf("it is nested more than %d deep", MaxNesting)
			}
		case string:
			if wantKey {
				if keys[top][v] {
					return fmt.Errorf("the key %.64q is there twice", v)
				}
				keys[top][v], wantKey = true, false
				continue
			}
			wantKey = top >= 0 && keys[top] != nil
		default:
			wantKey = top >= 0 && keys[top] != nil
		}
		if len(keys) == 0 {
			break
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value")
	}
	return nil
}
