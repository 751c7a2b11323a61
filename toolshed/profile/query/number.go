package query

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

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
