package query

import (
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// plan is a query that can be run.
type plan struct {
	where node
	query *sparql.Query
	// slots is how many variables there are.
	slots int
	// groups, keys and aggregates are of one that groups its solutions.
	keys       []keyed
	aggregates []aggregate
	having     []*condition
	// extended are the values that SELECT makes, in its order, selected the slots
	// of what it answers.
	extended []keyed
	selected []int
	orders   []*condition
}

// keyed is a value and the slot that takes it.
type keyed struct {
	slot int
	by   *condition
}

type compiler struct {
	// names are the variables by their slots; empty for what has no name.
	names      []string
	aggregates []aggregate
}

type refusal struct{ err error }

// fail ends the compiling; compile turns it into an error.
func (c *compiler) fail(format string, args ...any) {
	panic(refusal{&sparql.Error{Text: fmt.Sprintf(format, args...)}})
}

// compile makes the plan of a query. The error is a *sparql.Error.
func compile(q *sparql.Query) (p *plan, err error) {
	defer func() {
		if thrown := recover(); thrown != nil {
			r, ours := thrown.(refusal)
			if !ours {
				panic(thrown)
			}
			p, err = nil, r.err
		}
	}()
	c := &compiler{}
	p = &plan{query: q, where: c.group(q.Where)}
	if q.Values != nil {
		p.where = fix(join{p.where, c.values(q.Values)})
	}
	for _, g := range q.GroupBy {
		k := keyed{by: c.condition(sparql.Variable{Name: g.Name})}
		if g.As != nil {
			k.by = c.condition(g.As)
		}
		if g.Name != "" {
			k.slot = c.slot(g.Name)
		} else {
			k.slot = c.fresh()
		}
		p.keys = append(p.keys, k)
	}
	for _, s := range q.Select {
		if s.As != nil {
			p.extended = append(p.extended, keyed{by: c.condition(s.As), slot: c.slot(s.Name)})
		}
		p.selected = append(p.selected, c.slot(s.Name))
	}
	for _, h := range q.Having {
		p.having = append(p.having, c.condition(h))
	}
	for _, o := range q.OrderBy {
		p.orders = append(p.orders, c.condition(o.By))
	}
	p.aggregates, p.slots = c.aggregates, len(c.names)
	return p, nil
}

// fixed is a node whose sets of variables were worked out.
type fixed struct {
	node
	v, sure, apart set
}

func (f fixed) vars() set    { return f.v }
func (f fixed) certain() set { return f.sure }
func (f fixed) unsafe() set  { return f.apart }

func fix(n node) node {
	if b, is := n.(*basic); is {
		// It grows with its conditions, and its sets stay.
		return b
	}
	return fixed{n, n.vars(), n.certain(), n.unsafe()}
}

// group compiles a group: its parts in their order, its filters over all of
// them.
func (c *compiler) group(g sparql.Group) node {
	var n node = none{}
	var filters []*condition
	var open []sparql.Pattern
	// Patterns with nothing but filters between them are matched together.
	flush := func() {
		if len(open) > 0 {
			n = both(n, c.triples(open))
			open = nil
		}
	}
	for _, e := range g.Elements {
		switch e := e.(type) {
		case sparql.Triples:
			open = append(open, e.Patterns...)
			continue
		case sparql.Filter:
			filters = append(filters, c.condition(e.By))
			continue
		}
		flush()
		n = c.part(n, e)
	}
	flush()
	for _, f := range filters {
		n = filtered(n, f)
	}
	return n
}

func (c *compiler) part(n node, e sparql.Element) node {
	switch e := e.(type) {
	case sparql.Group:
		return both(n, c.group(e))
	case sparql.Optional:
		return c.optional(n, e.Group)
	case sparql.Union:
		var u union
		for _, g := range e.Groups {
			u = append(u, c.group(g))
		}
		return both(n, fix(u))
	case sparql.Minus:
		return fix(minus{n, c.group(e.Group)})
	case sparql.Bind:
		by := c.condition(e.As)
		return fix(extend{n, c.slot(e.Name), by})
	case *sparql.Values:
		return both(n, c.values(e))
	case *sparql.Subquery:
		return both(n, c.subquery(e.Query))
	}
	c.fail("a part of a group is not known: %T", e)
	return n
}

// optional has the filters of its group judge both sides.
func (c *compiler) optional(n node, g sparql.Group) node {
	var inner sparql.Group
	var by *condition
	for _, e := range g.Elements {
		if f, is := e.(sparql.Filter); is {
			by = and(by, c.condition(f.By))
			continue
		}
		inner.Elements = append(inner.Elements, e)
	}
	return fix(leftJoin{n, c.group(inner), by})
}

func and(a, b *condition) *condition {
	if a == nil {
		return b
	}
	return &condition{eval: either(a.eval, b.eval, false), uses: a.uses | b.uses}
}

func both(a, b node) node {
	if _, nothing := a.(none); nothing {
		return b
	}
	return fix(join{a, b})
}

// filtered puts a condition as deep as all that it uses is bound for certain:
// there it sees the same, sooner.
func filtered(n node, by *condition) node {
	inner := n
	if f, is := n.(fixed); is {
		inner = f.node
	}
	switch inner := inner.(type) {
	case *basic:
		if by.uses.within(inner.certain()) {
			inner.filters = append(inner.filters, by)
			return inner
		}
	case join:
		if by.uses.within(inner.a.certain()) {
			return fix(join{filtered(inner.a, by), inner.b})
		}
		if by.uses.within(inner.b.certain()) {
			return fix(join{inner.a, filtered(inner.b, by)})
		}
	case leftJoin:
		if by.uses.within(inner.a.certain()) {
			return fix(leftJoin{filtered(inner.a, by), inner.b, inner.by})
		}
	}
	return fix(filter{n, by})
}

func (c *compiler) values(v *sparql.Values) node {
	t := table{rows: v.Rows}
	for _, name := range v.Names {
		t.slots = append(t.slots, c.slot(name))
	}
	return fix(t)
}

func (c *compiler) subquery(q *sparql.Query) node {
	p, err := compile(q)
	if err != nil {
		panic(refusal{err})
	}
	s := &subquery{plan: p, found: &table{}}
	for _, one := range q.Select {
		s.found.slots = append(s.found.slots, c.slot(one.Name))
	}
	return fix(s)
}

// triples compiles patterns. Those with paths become others where they can.
func (c *compiler) triples(all []sparql.Pattern) node {
	b := &basic{orders: map[set]*order{}}
	var more []node
	for _, p := range all {
		s, o := c.end(p.Subject), c.end(p.Object)
		if p.Path == nil {
			b.patterns = append(b.patterns, pattern{subject: s, predicate: c.end(p.Predicate), object: o})
			continue
		}
		more = append(more, c.path(p.Path, s, o, b)...)
	}
	var n node = none{}
	if len(b.patterns) > 0 {
		n = b
	}
	for _, m := range more {
		n = both(n, m)
	}
	return n
}

func (c *compiler) end(n sparql.Node) end {
	if n.Name == "" {
		return end{slot: -1, term: n.Term}
	}
	return end{slot: c.slot(n.Name)}
}

// path adds what a path is to the patterns, and answers what stands beside
// them.
func (c *compiler) path(p sparql.Path, from, to end, b *basic) []node {
	nobody := end{slot: -1}
	switch p := p.(type) {
	case sparql.Link:
		b.patterns = append(b.patterns, pattern{subject: from, predicate: end{slot: -1, term: rdf.NewIRI(p.Predicate)}, object: to})
		return nil
	case sparql.Inverse:
		return c.path(p.Path, to, from, b)
	case sparql.Sequence:
		between := end{slot: c.fresh()}
		return append(c.path(p.First, from, between, b), c.path(p.Then, between, to, b)...)
	case sparql.Alternative:
		var u union
		for _, way := range []sparql.Path{p.Either, p.Or} {
			inner := &basic{orders: map[set]*order{}}
			var n node = none{}
			more := c.path(way, from, to, inner)
			if len(inner.patterns) > 0 {
				n = inner
			}
			for _, m := range more {
				n = both(n, m)
			}
			u = append(u, n)
		}
		return []node{fix(u)}
	}
	b.patterns = append(b.patterns, pattern{subject: from, predicate: nobody, object: to, path: p})
	return nil
}
