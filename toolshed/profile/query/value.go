package query

import (
	"errors"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// errValue is SPARQL's error in an expression: it has no value, and a condition
// does not hold. Every other error ends the query.
var errValue = errors.New("the expression has no value")

// rank is the type of a number: what two numbers give together is of the higher
// one.
type rank uint8

const (
	isInteger rank = iota
	isDecimal
	isFloat
	isDouble
)

var rankTypes = map[rank]string{isInteger: rdf.Integer, isDecimal: rdf.Decimal, isFloat: rdf.Float, isDouble: rdf.Double}

var ranks = func() map[string]rank {
	all := map[string]rank{rdf.Decimal: isDecimal, rdf.Float: isFloat, rdf.Double: isDouble}
	for _, name := range []string{
		"integer", "int", "long", "short", "byte", "nonNegativeInteger", "positiveInteger", "nonPositiveInteger", "negativeInteger",
		"unsignedLong", "unsignedInt", "unsignedShort", "unsignedByte",
	} {
		all[rdf.XSD+name] = isInteger
	}
	return all
}()

// number is exact in r up to decimals, and in f above.
type number struct {
	rank rank
	r    *big.Rat
	f    float64
}

// maxDigits bounds exact numbers, and decimals those behind the point.
const (
	maxDigits = 200
	decimals  = 18
)

var (
	integerForm = regexp.MustCompile(`^[+-]?[0-9]+$`)
	decimalForm = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)$`)
	doubleForm  = regexp.MustCompile(`^([+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?INF|NaN)$`)
)

func toNumber(t rdf.Term) (number, bool) {
	k, ok := ranks[t.Datatype]
	if t.Kind != rdf.Literal || !ok {
		return number{}, false
	}
	return parseNumber(strings.Trim(t.Value, " \t\r\n"), k)
}

func parseNumber(s string, k rank) (n number, ok bool) {
	n.rank = k
	if k >= isFloat {
		if len(s) > maxDigits || !doubleForm.MatchString(s) {
			return n, false
		}
		// What is too large is infinite.
		n.f, _ = strconv.ParseFloat(s, 64)
		if k == isFloat {
			n.f = float64(float32(n.f))
		}
		return n, true
	}
	form := decimalForm
	if k == isInteger {
		form = integerForm
	}
	if len(s) > maxDigits || !form.MatchString(s) {
		return n, false
	}
	n.r, ok = new(big.Rat).SetString(s)
	return n, ok
}

func (n number) float() float64 {
	if n.rank >= isFloat {
		return n.f
	}
	f, _ := n.r.Float64()
	return f
}

// term writes a number. The error is errValue where it has too many digits.
func (n number) term() (rdf.Term, error) {
	switch n.rank {
	case isInteger:
		if n.r.Num().BitLen() > 3*maxDigits {
			return rdf.Term{}, errValue
		}
		return rdf.Typed(n.r.Num().String(), rdf.Integer), nil
	case isDecimal:
		if n.r.Num().BitLen()-n.r.Denom().BitLen() > 3*maxDigits {
			return rdf.Term{}, errValue
		}
		s := n.r.FloatString(decimals)
		return rdf.Typed(strings.TrimSuffix(strings.TrimRight(s, "0"), "."), rdf.Decimal), nil
	}
	return rdf.Typed(rdf.DoubleText(n.f), rankTypes[n.rank]), nil
}

// rounded keeps an exact number within its digits.
func (n number) rounded() (number, error) {
	if n.rank >= isFloat {
		return n, nil
	}
	if n.r.Num().BitLen()-n.r.Denom().BitLen() > 3*maxDigits {
		return n, errValue
	}
	if n.r.Denom().BitLen() > 64 {
		n.r, _ = new(big.Rat).SetString(n.r.FloatString(decimals))
	}
	return n, nil
}

// arithmetic does one of + - * /.
func arithmetic(operator string, a, b number) (number, error) {
	k := max(a.rank, b.rank)
	if operator == "/" {
		k = max(k, isDecimal)
	}
	if k >= isFloat {
		x, y := a.float(), b.float()
		n := number{rank: k, f: map[string]float64{"+": x + y, "-": x - y, "*": x * y, "/": x / y}[operator]}
		if k == isFloat {
			n.f = float64(float32(n.f))
		}
		return n, nil
	}
	n := number{rank: k, r: new(big.Rat)}
	switch operator {
	case "+":
		n.r.Add(a.r, b.r)
	case "-":
		n.r.Sub(a.r, b.r)
	case "*":
		n.r.Mul(a.r, b.r)
	default:
		if b.r.Sign() == 0 {
			return n, errValue
		}
		n.r.Quo(a.r, b.r)
	}
	return n.rounded()
}

// compareNumbers answers also whether they can be compared: NaN cannot.
func compareNumbers(a, b number) (int, bool) {
	if a.rank < isFloat && b.rank < isFloat {
		return a.r.Cmp(b.r), true
	}
	x, y := a.float(), b.float()
	switch {
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, x == y
}

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
