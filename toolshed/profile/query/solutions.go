package query

import (
	"errors"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// solutions calls y with the terms of each solution that is selected, in order.
func (p *plan) solutions(x *run, y yield) error {
	answered, skip := 0, p.query.Offset
	out := y
	limited := func(row []rdf.Term) error {
		if skip > 0 {
			skip--
			return nil
		}
		if p.query.Limit >= 0 && answered == p.query.Limit {
			return errLimit
		}
		answered++
		return out(row)
	}
	if p.query.Limit == 0 {
		return nil
	}
	next := limited
	if p.query.Distinct {
		next = distinct(x, limited)
	}
	project := func(row []rdf.Term) error {
		values := make([]rdf.Term, len(p.selected))
		for n, i := range p.selected {
			values[n] = row[i]
		}
		return next(values)
	}
	err := p.ordered(x, project)
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}

// errLimit ends a query that has answered enough.
var errLimit = errors.New("the limit is reached")

func distinct(x *run, y yield) yield {
	seen := map[string]bool{}
	return func(row []rdf.Term) error {
		key := keyOf(row)
		if seen[key] {
			return nil
		}
		seen[key] = true
		if err := x.hold(row); err != nil {
			return err
		}
		return y(row)
	}
}

// keyOf is different for different terms.
func keyOf(row []rdf.Term) string {
	var b strings.Builder
	for _, t := range row {
		b.WriteByte(byte('0' + t.Kind))
		for _, s := range []string{t.Value, t.Datatype, t.Language} {
			// No term has the character 0.
			b.WriteString(s)
			b.WriteByte(0)
		}
	}
	return b.String()
}

// sorted is a solution with what it is sorted by.
type sorted struct{ row, by []rdf.Term }

// ordered calls y with each solution's row, in order.
func (p *plan) ordered(x *run, y yield) error {
	if len(p.orders) == 0 {
		return p.made(x, y)
	}
	var all []sorted
	sort := func() {
		slices.SortStableFunc(all, func(a, b sorted) int {
			for n, o := range p.query.OrderBy {
				c := orderOf(a.by[n], b.by[n])
				if o.Descending {
					c = -c
				}
				if c != 0 {
					return c
				}
			}
			return 0
		})
	}
	enough := p.query.Limit + p.query.Offset
	base := x.held
	err := p.made(x, func(row []rdf.Term) error {
		s := sorted{row: slices.Clone(row)}
		for _, o := range p.orders {
			t, err := o.value(x, row, ^set(0))
			if err != nil {
				return err
			}
			s.by = append(s.by, t)
		}
		all = append(all, s)
		if err := errors.Join(x.hold(s.row), x.hold(s.by)); err != nil {
			return err
		}
		// Where few are wanted, few are kept.
		if p.query.Limit >= 0 && !p.query.Distinct && len(all) > 2*enough+1000 {
			sort()
			clear(all[enough:])
			all = all[:enough]
			x.held = base
			for _, s := range all {
				if err := errors.Join(x.hold(s.row), x.hold(s.by)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	sort()
	for _, s := range all {
		if err := y(s.row); err != nil {
			return err
		}
	}
	return nil
}

// made calls y with each solution and what SELECT makes of it.
func (p *plan) made(x *run, y yield) error {
	source := p.grouped
	if !p.query.Grouped {
		source = func(x *run, y yield) error { return joined(p.where, x, make([]rdf.Term, p.slots), y) }
	}
	return source(x, func(row []rdf.Term) error {
		// A copy: the row belongs to what it comes from.
		row = slices.Clone(row)
		for _, e := range p.extended {
			t, err := e.by.value(x, row, ^set(0))
			if err != nil {
				return err
			}
			row[e.slot] = t
		}
		return y(row)
	})
}

// members are the solutions of one group.
type members struct {
	keys   []rdf.Term
	totals []total
}

// grouped calls y with a row for each group.
func (p *plan) grouped(x *run, y yield) error {
	groups := map[string]*members{}
	var all []*members
	add := func(keys []rdf.Term) (*members, error) {
		g := &members{keys: keys}
		for _, a := range p.aggregates {
			g.totals = append(g.totals, a.begin())
		}
		groups[keyOf(keys)] = g
		all = append(all, g)
		return g, errors.Join(x.hold(keys), x.hold(make([]rdf.Term, len(p.aggregates))))
	}
	err := joined(p.where, x, make([]rdf.Term, p.slots), func(row []rdf.Term) error {
		keys := make([]rdf.Term, len(p.keys))
		for i, k := range p.keys {
			var err error
			if keys[i], err = k.by.value(x, row, ^set(0)); err != nil {
				return err
			}
		}
		g := groups[keyOf(keys)]
		if g == nil {
			var err error
			if g, err = add(keys); err != nil {
				return err
			}
		}
		for i := range g.totals {
			if err := g.totals[i].add(x, row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// Without keys everything is one group, nothing too.
	if len(p.keys) == 0 && len(all) == 0 {
		if _, err := add(nil); err != nil {
			return err
		}
	}
	for _, g := range all {
		if err := p.group(x, g, y); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) group(x *run, g *members, y yield) error {
	row := make([]rdf.Term, p.slots)
	for i, k := range p.keys {
		row[k.slot] = g.keys[i]
	}
	for i := range g.totals {
		t, err := g.totals[i].result()
		if err != nil && !errors.Is(err, errValue) {
			return err
		}
		row[g.totals[i].slot] = t
	}
	for _, h := range p.having {
		if ok, err := h.holds(x, row, ^set(0)); err != nil || !ok {
			return err
		}
	}
	return y(row)
}
