package query

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// dates are the functions of times.
func dates() map[string]function {
	part := func(f func(time.Time) int) function {
		return func(a []rdf.Term) (rdf.Term, error) {
			at, _, ok := toTime(a[0])
			if !ok {
				return rdf.Term{}, errValue
			}
			return rdf.Typed(strconv.Itoa(f(at)), rdf.Integer), nil
		}
	}
	// A date has no hours.
	clock := func(f function) function {
		return func(a []rdf.Term) (rdf.Term, error) {
			if a[0].Datatype != rdf.DateTime {
				return rdf.Term{}, errValue
			}
			return f(a)
		}
	}
	return map[string]function{
		"YEAR": part(time.Time.Year), "MONTH": part(func(t time.Time) int { return int(t.Month()) }), "DAY": part(time.Time.Day),
		"HOURS": clock(part(time.Time.Hour)), "MINUTES": clock(part(time.Time.Minute)), "SECONDS": clock(seconds), "TZ": zone,
	}
}

func seconds(a []rdf.Term) (rdf.Term, error) {
	at, _, ok := toTime(a[0])
	if !ok {
		return rdf.Term{}, errValue
	}
	return number{rank: isDecimal, r: big.NewRat(int64(at.Second())*1e9+int64(at.Nanosecond()), 1e9)}.term()
}

func zone(a []rdf.Term) (rdf.Term, error) {
	at, zoned, ok := toTime(a[0])
	if !ok {
		return rdf.Term{}, errValue
	}
	if !zoned {
		return rdf.Text(""), nil
	}
	if strings.HasSuffix(a[0].Value, "Z") {
		return rdf.Text("Z"), nil
	}
	return rdf.Text(at.Format("-07:00")), nil
}

// casts are the functions that are named by a datatype.
func casts() map[string]function {
	return map[string]function{
		rdf.String: func(a []rdf.Term) (rdf.Term, error) { return rdf.Text(a[0].Value), nil },
		rdf.Boolean: func(a []rdf.Term) (rdf.Term, error) {
			if b, ok := toBoolean(rdf.Typed(a[0].Value, rdf.Boolean)); ok && isText(a[0]) {
				return boolean(b), nil
			}
			if isText(a[0]) {
				return rdf.Term{}, errValue
			}
			return judged(truth(a[0]))
		},
		rdf.Integer: toNumeric(isInteger), rdf.Decimal: toNumeric(isDecimal), rdf.Float: toNumeric(isFloat), rdf.Double: toNumeric(isDouble),
		rdf.DateTime: toDated(rdf.DateTime), rdf.Date: toDated(rdf.Date),
	}
}

func toNumeric(k rank) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		t := a[0]
		if b, ok := toBoolean(t); ok {
			t = rdf.Typed(map[bool]string{true: "1", false: "0"}[b], rdf.Integer)
		}
		n, ok := toNumber(t)
		if !ok && t.Datatype == rdf.String {
			n, ok = parseNumber(strings.Trim(t.Value, " \t\r\n"), k)
		}
		if !ok {
			return rdf.Term{}, errValue
		}
		n, err := n.to(k)
		if err != nil {
			return rdf.Term{}, err
		}
		return n.term()
	}
}

// to is a number as another type has it.
func (n number) to(k rank) (number, error) {
	if k >= isFloat {
		n.f = n.float()
		if k == isFloat {
			n.f = float64(float32(n.f))
		}
		return number{rank: k, f: n.f}, nil
	}
	if n.rank >= isFloat {
		if math.IsNaN(n.f) || math.IsInf(n.f, 0) {
			return n, errValue
		}
		n.r = new(big.Rat)
		n.r.SetFloat64(n.f)
	}
	if k == isInteger {
		n.r = new(big.Rat).SetInt(new(big.Int).Quo(n.r.Num(), n.r.Denom()))
	}
	return number{rank: k, r: n.r}, nil
}

func toDated(datatype string) function {
	return func(a []rdf.Term) (rdf.Term, error) {
		if a[0].Kind != rdf.Literal {
			return rdf.Term{}, errValue
		}
		text := a[0].Value
		switch {
		case a[0].Datatype == datatype, a[0].Datatype == rdf.String:
		case datatype == rdf.Date && a[0].Datatype == rdf.DateTime:
			day, clock, _ := strings.Cut(text, "T")
			if i := strings.IndexAny(clock, "Z+-"); i >= 0 {
				day += clock[i:]
			}
			text = day
		case datatype == rdf.DateTime && a[0].Datatype == rdf.Date && len(text) >= 10:
			text = text[:10] + "T00:00:00" + text[10:]
		default:
			return rdf.Term{}, errValue
		}
		t := rdf.Typed(text, datatype)
		if _, _, ok := toTime(t); !ok {
			return rdf.Term{}, errValue
		}
		return t, nil
	}
}
