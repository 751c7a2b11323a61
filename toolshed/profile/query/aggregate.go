package query

import (
	"math/big"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// aggregate is one of a query's, with the slot that takes its value.
type aggregate struct {
	*sparql.Aggregate
	slot int
	// by is nil for whole solutions.
	by *condition
}

// aggregate has a slot; the same one always has the same.
func (c *compiler) aggregate(a *sparql.Aggregate) int {
	one := aggregate{Aggregate: a}
	if a.Arg != nil {
		one.by = c.condition(a.Arg)
	}
	one.slot = c.fresh()
	c.aggregates = append(c.aggregates, one)
	return one.slot
}

// total is an aggregate over the solutions so far.
type total struct {
	aggregate
	seen  map[string]bool
	count int64
	sum   number
	best  rdf.Term
	text  strings.Builder
	// failed says that an argument had no value: then there is no total.
	failed bool
}

func (a aggregate) begin() total {
	t := total{aggregate: a, sum: number{rank: isInteger, r: new(big.Rat)}}
	if a.Distinct {
		t.seen = map[string]bool{}
	}
	return t
}

func (t *total) add(x *run, row []rdf.Term) error {
	values := row
	if t.by != nil {
		v, err := t.by.value(x, row, ^set(0))
		if err != nil {
			return err
		}
		if v.Kind == rdf.None {
			// A count and a sample are of what has a value.
			t.failed = t.failed || t.Name != "COUNT" && t.Name != "SAMPLE"
			return nil
		}
		values = []rdf.Term{v}
	}
	if t.Distinct {
		key := keyOf(values)
		if t.seen[key] {
			return nil
		}
		t.seen[key] = true
		if err := x.hold(values); err != nil {
			return err
		}
	}
	t.count++
	if t.failed || t.by == nil {
		return nil
	}
	return t.take(x, values[0])
}

func (t *total) take(x *run, v rdf.Term) error {
	switch t.Name {
	case "SUM", "AVG":
		n, ok := toNumber(v)
		if ok {
			sum, err := arithmetic("+", t.sum, n)
			ok, t.sum = err == nil, sum
		}
		t.failed = !ok
	case "MIN", "MAX":
		c := orderOf(v, t.best)
		if t.best.Kind == rdf.None || t.Name == "MIN" && c < 0 || t.Name == "MAX" && c > 0 {
			t.best = v
		}
	case "SAMPLE":
		if t.best.Kind == rdf.None {
			t.best = v
		}
	case "GROUP_CONCAT":
		if v.Kind != rdf.Literal || t.text.Len()+len(v.Value)+len(t.Separator) > maxText {
			t.failed = true
			return nil
		}
		if t.count > 1 {
			t.text.WriteString(t.Separator)
		}
		t.text.WriteString(v.Value)
		return x.hold([]rdf.Term{v})
	}
	return nil
}

func (t *total) result() (rdf.Term, error) {
	if t.failed {
		return rdf.Term{}, errValue
	}
	switch t.Name {
	case "COUNT":
		return rdf.Typed(strconv.FormatInt(t.count, 10), rdf.Integer), nil
	case "SUM":
		return t.sum.term()
	case "AVG":
		if t.count == 0 {
			return rdf.Typed("0", rdf.Integer), nil
		}
		n, err := arithmetic("/", t.sum, number{rank: isInteger, r: big.NewRat(t.count, 1)})
		if err != nil {
			return rdf.Term{}, err
		}
		return n.term()
	case "GROUP_CONCAT":
		return rdf.Text(t.text.String()), nil
	}
	if t.best.Kind == rdf.None {
		return rdf.Term{}, errValue
	}
	return t.best, nil
}
