package query

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// errValue is SPARQL's error in an expression: it has no value, and a condition
// does not hold. Every other error ends the query.
var errValue = errors.New("the expression has no value")

// toTime reads a date or a date with a time. Where there is no zone it is UTC.
func toTime(t rdf.Term) (at time.Time, zoned, ok bool) {
	if t.Kind != rdf.Literal {
		return at, false, false
	}
	form := map[string]string{rdf.DateTime: "2006-01-02T15:04:05", rdf.Date: "2006-01-02"}[t.Datatype]
	if form == "" {
		return at, false, false
	}
	at, err := time.Parse(form+"Z07:00", t.Value)
	if err == nil {
		return at, true, true
	}
	at, err = time.Parse(form, t.Value)
	return at, false, err == nil
}

func toBoolean(t rdf.Term) (value, ok bool) {
	if t.Kind != rdf.Literal || t.Datatype != rdf.Boolean {
		return false, false
	}
	switch t.Value {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	return false, false
}

func boolean(b bool) rdf.Term { return rdf.Typed(strconv.FormatBool(b), rdf.Boolean) }

// truth is the effective boolean value.
func truth(t rdf.Term) (bool, error) {
	if b, ok := toBoolean(t); ok {
		return b, nil
	}
	if n, ok := toNumber(t); ok {
		f := n.float()
		return f != 0 && !math.IsNaN(f), nil
	}
	_, numeric := ranks[t.Datatype]
	switch {
	case t.Kind != rdf.Literal:
		return false, errValue
	case t.Datatype == rdf.Boolean || numeric:
		return false, nil
	case t.Datatype == rdf.String || t.Datatype == rdf.LangString:
		return t.Value != "", nil
	}
	return false, errValue
}

// class tells values apart that are never equal to those of another.
func class(t rdf.Term) string {
	if t.Kind == rdf.IRI {
		return "iri"
	}
	if _, ok := toNumber(t); ok {
		return "number"
	}
	switch t.Datatype {
	case rdf.String, rdf.LangString:
		return t.Datatype
	case rdf.Boolean:
		if _, ok := toBoolean(t); ok {
			return t.Datatype
		}
	case rdf.DateTime, rdf.Date:
		if _, _, ok := toTime(t); ok {
			return t.Datatype
		}
	}
	return ""
}

// equal is SPARQL's =. The error is errValue where nobody can know.
func equal(a, b rdf.Term) (bool, error) {
	if a == b {
		if n, ok := toNumber(a); ok && n.rank >= isFloat && math.IsNaN(n.f) {
			return false, nil
		}
		return true, nil
	}
	x, y := class(a), class(b)
	switch {
	case x == "" && y == "", x == "" && b.Kind == rdf.Literal, y == "" && a.Kind == rdf.Literal:
		return false, errValue
	case x != y:
		return false, nil
	}
	if c, ok := compare(a, b); ok {
		return c == 0, nil
	}
	return false, nil
}

// compare orders values of the same class, as < and > do.
func compare(a, b rdf.Term) (int, bool) {
	if x, ok := toNumber(a); ok {
		y, ok := toNumber(b)
		if !ok {
			return 0, false
		}
		return compareNumbers(x, y)
	}
	x, y := class(a), class(b)
	if x != y || x == "" || x == "iri" || x == rdf.LangString {
		return 0, false
	}
	switch x {
	case rdf.Boolean:
		p, _ := toBoolean(a)
		q, _ := toBoolean(b)
		return strings.Compare(strconv.FormatBool(p), strconv.FormatBool(q)), true
	case rdf.DateTime, rdf.Date:
		p, _, _ := toTime(a)
		q, _, _ := toTime(b)
		return p.Compare(q), true
	}
	return strings.Compare(a.Value, b.Value), true
}

// order is ORDER BY's: what is unbound, then IRIs, then literals, by value where
// that can be compared and by text where not.
func orderOf(a, b rdf.Term) int {
	if a.Kind != b.Kind {
		return int(a.Kind) - int(b.Kind)
	}
	if a.Kind == rdf.Literal {
		if c, ok := compare(a, b); ok {
			return c
		}
		if x, y := class(a), class(b); x != y {
			return strings.Compare(x, y)
		}
	}
	for _, c := range []int{strings.Compare(a.Value, b.Value), strings.Compare(a.Language, b.Language), strings.Compare(a.Datatype, b.Datatype)} {
		if c != 0 {
			return c
		}
	}
	return 0
}
