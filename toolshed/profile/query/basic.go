package query

import (
	"slices"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// end is one end of a pattern: a variable's slot, or a term where it is
// negative.
type end struct {
	slot int
	term rdf.Term
}

func (e end) in(row []rdf.Term) rdf.Term {
	if e.slot < 0 {
		return e.term
	}
	return row[e.slot]
}

func (e end) vars() set {
	if e.slot < 0 {
		return 0
	}
	return 1 << e.slot
}

// pattern is a triple, or a path between two ends.
type pattern struct {
	subject, predicate, object end
	path                       sparql.Path
}

func (p pattern) vars() set { return p.subject.vars() | p.predicate.vars() | p.object.vars() }

// run binds what is not bound for each match.
func (p pattern) run(x *run, row []rdf.Term, y yield) error {
	slots := make([]int, 0, 3)
	for _, e := range []end{p.subject, p.predicate, p.object} {
		if e.slot >= 0 {
			slots = append(slots, e.slot)
		}
	}
	take := func(t rdf.Triple) error {
		values := make([]rdf.Term, 0, 3)
		for _, one := range []struct {
			end   end
			value rdf.Term
		}{{p.subject, t.Subject}, {p.predicate, t.Predicate}, {p.object, t.Object}} {
			if one.end.slot >= 0 {
				values = append(values, one.value)
			}
		}
		return bindAll(row, slots, values, y)
	}
	want := rdf.Triple{Subject: p.subject.in(row), Predicate: p.predicate.in(row), Object: p.object.in(row)}
	if p.path == nil {
		return x.match(want, take)
	}
	if p.free(x) && empty(p.path) {
		// What is bound elsewhere need not be in this graph, and only what is has
		// a path of no steps.
		for _, t := range []rdf.Term{want.Subject, want.Object} {
			if there, err := x.mentions(t); err != nil || !there {
				return err
			}
		}
	}
	return x.between(p.path, want.Subject, want.Object, func(s, o rdf.Term) error { return take(rdf.Triple{Subject: s, Object: o}) })
}

// free reports whether both ends are variables that EXISTS has put nothing in
// the place of.
func (p pattern) free(x *run) bool {
	return p.subject.slot >= 0 && p.object.slot >= 0 && (p.subject.vars()|p.object.vars())&x.outer == 0
}

// What a bound variable leaves of a pattern's matches, as guesses: a subject
// has few facts, an object is shared by some, a predicate by many.
const (
	subjectShare   = 1000
	objectShare    = 100
	predicateShare = 10
	pathCost       = 1 << 10
	openPathCost   = 1 << 40
)

// cost guesses how many matches a pattern has where some variables are bound.
func (p pattern) cost(x *run, known set) (int64, error) {
	is := func(e end) bool { return e.slot < 0 || known.has(e.slot) }
	if p.path != nil {
		if is(p.subject) || is(p.object) {
			return pathCost, nil
		}
		return openPathCost, nil
	}
	n, err := x.estimate(rdf.Triple{Subject: p.subject.term, Predicate: p.predicate.term, Object: p.object.term})
	for _, one := range []struct {
		end   end
		share int64
	}{{p.subject, subjectShare}, {p.predicate, predicateShare}, {p.object, objectShare}} {
		if one.end.slot >= 0 && known.has(one.end.slot) {
			n = (n + one.share - 1) / one.share
		}
	}
	return n, err
}

// basic is patterns that all match, with conditions on what they bind. The most
// selective is matched first.
type basic struct {
	patterns []pattern
	filters  []*condition
	// orders are the orders of matching, by what is bound before.
	orders map[set]*order
}

// order has the patterns in their order, and the conditions that can be
// judged after each.
type order struct {
	patterns []pattern
	after    [][]*condition
}

func (b *basic) vars() (s set) {
	for _, p := range b.patterns {
		s |= p.vars()
	}
	return s
}

func (b *basic) certain() set { return b.vars() }
func (b *basic) unsafe() set  { return 0 }

func (b *basic) run(x *run, row []rdf.Term, y yield) error {
	known := bound(row) & b.vars()
	o := b.orders[known]
	if o == nil {
		var err error
		if o, err = b.plan(x, known); err != nil {
			return err
		}
		b.orders[known] = o
	}
	return b.from(x, o, 0, row, y)
}

func (b *basic) plan(x *run, known set) (*order, error) {
	left, filters := slices.Clone(b.patterns), slices.Clone(b.filters)
	o := &order{}
	for len(left) > 0 {
		best, least := 0, int64(-1)
		for i, p := range left {
			n, err := p.cost(x, known)
			if err != nil {
				return nil, err
			}
			if least < 0 || n < least {
				best, least = i, n
			}
		}
		known |= left[best].vars()
		o.patterns = append(o.patterns, left[best])
		left = slices.Delete(left, best, best+1)
		var now []*condition
		filters = slices.DeleteFunc(filters, func(c *condition) bool {
			ready := c.uses.within(known)
			if ready {
				now = append(now, c)
			}
			return ready
		})
		o.after = append(o.after, now)
	}
	return o, nil
}

func (b *basic) from(x *run, o *order, i int, row []rdf.Term, y yield) error {
	if i == len(o.patterns) {
		return y(row)
	}
	return o.patterns[i].run(x, row, func(row []rdf.Term) error {
		for _, c := range o.after[i] {
			if ok, err := c.holds(x, row, b.vars()); err != nil || !ok {
				return err
			}
		}
		return b.from(x, o, i+1, row, y)
	})
}
