package query

import (
	"maps"
	"math"
	"math/big"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// function is one whose arguments all have values.
type function func(args []rdf.Term) (rdf.Term, error)

// functions are by their names; those that take arguments without a value are
// in call.
var functions = allFunctions()

func allFunctions() map[string]function {
	all := map[string]function{
		"=": func(a []rdf.Term) (rdf.Term, error) { return judged(equal(a[0], a[1])) },
		"!=": func(a []rdf.Term) (rdf.Term, error) {
			same, err := equal(a[0], a[1])
			return judged(!same, err)
		},
		"<": compared(func(c int) bool { return c < 0 }), ">": compared(func(c int) bool { return c > 0 }),
		"<=": compared(func(c int) bool { return c <= 0 }), ">=": compared(func(c int) bool { return c >= 0 }),
		"+": calculated("+"), "-": calculated("-"), "*": calculated("*"), "/": calculated("/"),
		"NEGATE": func(a []rdf.Term) (rdf.Term, error) {
			return calculated("*")([]rdf.Term{a[0], rdf.Typed("-1", rdf.Integer)})
		},
		"!": func(a []rdf.Term) (rdf.Term, error) {
			b, err := truth(a[0])
			return judged(!b, err)
		},
		"SAMETERM": is2(func(a, b rdf.Term) bool { return a == b }),
		"ISIRI":    is(func(t rdf.Term) bool { return t.Kind == rdf.IRI }), "ISURI": is(func(t rdf.Term) bool { return t.Kind == rdf.IRI }),
		"ISBLANK": is(func(rdf.Term) bool { return false }), "ISLITERAL": is(func(t rdf.Term) bool { return t.Kind == rdf.Literal }),
		"ISNUMERIC": is(func(t rdf.Term) bool { _, ok := toNumber(t); return ok }),
		"STR":       func(a []rdf.Term) (rdf.Term, error) { return rdf.Text(a[0].Value), nil },
		"LANG":      ofLiteral(func(t rdf.Term) rdf.Term { return rdf.Text(t.Language) }),
		"DATATYPE":  ofLiteral(func(t rdf.Term) rdf.Term { return rdf.NewIRI(t.Datatype) }),
		"IRI":       toIRI, "URI": toIRI, "STRDT": strdt, "STRLANG": strlang, "LANGMATCHES": langMatches,
		"STRLEN": func(a []rdf.Term) (rdf.Term, error) {
			if !isText(a[0]) {
				return rdf.Term{}, errValue
			}
			return rdf.Typed(strconv.Itoa(utf8.RuneCountInString(a[0].Value)), rdf.Integer), nil
		},
		"UCASE": changed(strings.ToUpper), "LCASE": changed(strings.ToLower),
		"ENCODE_FOR_URI": func(a []rdf.Term) (rdf.Term, error) {
			if !isText(a[0]) {
				return rdf.Term{}, errValue
			}
			return rdf.Text(strings.ReplaceAll(url.QueryEscape(a[0].Value), "+", "%20")), nil
		},
		"CONTAINS": found(strings.Contains), "STRSTARTS": found(strings.HasPrefix), "STRENDS": found(strings.HasSuffix),
		"STRBEFORE": cut(true), "STRAFTER": cut(false), "CONCAT": concat, "SUBSTR": substr,
		"ABS":   rounding(new(big.Rat).Abs, math.Abs),
		"CEIL":  rounding(func(r *big.Rat) *big.Rat { return toInt(r, 1) }, math.Ceil),
		"FLOOR": rounding(func(r *big.Rat) *big.Rat { return toInt(r, 0) }, math.Floor),
		"ROUND": rounding(func(r *big.Rat) *big.Rat { return toInt(new(big.Rat).Add(r, big.NewRat(1, 2)), 0) }, func(f float64) float64 { return math.Copysign(math.Floor(f+.5), f) }),
	}
	maps.Copy(all, dates())
	maps.Copy(all, casts())
	return all
}

func judged(b bool, err error) (rdf.Term, error) { return boolean(b), err }

func is(f func(rdf.Term) bool) function {
	return func(a []rdf.Term) (rdf.Term, error) { return boolean(f(a[0])), nil }
}

func is2(f func(a, b rdf.Term) bool) function {
	return func(a []rdf.Term) (rdf.Term, error) { return boolean(f(a[0], a[1])), nil }
}

func compared(f func(int) bool) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		c, ok := compare(a[0], a[1])
		if !ok {
			// What is NaN is neither less nor more.
			_, x := toNumber(a[0])
			_, y := toNumber(a[1])
			if x && y {
				return boolean(false), nil
			}
			return rdf.Term{}, errValue
		}
		return boolean(f(c)), nil
	}
}

func calculated(operator string) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		x, ok := toNumber(a[0])
		y, also := toNumber(a[1])
		if !ok || !also {
			return rdf.Term{}, errValue
		}
		n, err := arithmetic(operator, x, y)
		if err != nil {
			return rdf.Term{}, err
		}
		return n.term()
	}
}

func rounding(exact func(*big.Rat) *big.Rat, float func(float64) float64) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		n, ok := toNumber(a[0])
		if !ok {
			return rdf.Term{}, errValue
		}
		if n.rank >= isFloat {
			n.f = float(n.f)
		} else {
			n.r = exact(n.r)
		}
		return n.term()
	}
}

// toInt rounds down, and then up by as much where it was not whole.
func toInt(r *big.Rat, up int64) *big.Rat {
	q := new(big.Int).Div(r.Num(), r.Denom())
	if !r.IsInt() {
		q.Add(q, big.NewInt(up))
	}
	return new(big.Rat).SetInt(q)
}
