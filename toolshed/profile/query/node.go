package query

import (
	"errors"
	"slices"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// yield takes one solution. The row is the same one all along: who keeps it
// copies it.
type yield func(row []rdf.Term) error

// node is a part of the algebra. It is run on a row that binds some variables
// already, extends it in place for each solution that is compatible with it,
// and leaves it as it was.
type node interface {
	// vars may be bound by its solutions, certain are by each of them.
	vars() set
	certain() set
	// unsafe are the variables that may not be bound before it runs: then it
	// would answer otherwise than a join with what binds them.
	unsafe() set
	run(x *run, row []rdf.Term, y yield) error
}

// joined runs a node on a row as a join does.
func joined(n node, x *run, row []rdf.Term, y yield) error {
	away := n.unsafe() & bound(row) &^ x.outer
	if away == 0 {
		return n.run(x, row, y)
	}
	before := slices.Clone(row)
	away.each(func(i int) { row[i] = rdf.Term{} })
	defer copy(row, before)
	return n.run(x, row, func(row []rdf.Term) error {
		inner := slices.Clone(row)
		for i := range row {
			if !away.has(i) {
				continue
			}
			if row[i].Kind != rdf.None && row[i] != before[i] {
				return nil
			}
		}
		away.each(func(i int) { row[i] = before[i] })
		defer copy(row, inner)
		return y(row)
	})
}

// only runs something while a row binds nothing but some variables.
func only(row []rdf.Term, visible set, f func() error) error {
	hidden := bound(row) &^ visible
	if hidden == 0 {
		return f()
	}
	before := slices.Clone(row)
	hidden.each(func(i int) { row[i] = rdf.Term{} })
	defer copy(row, before)
	return f()
}

// none is the one solution that binds nothing.
type none struct{}

func (none) vars() set                                 { return 0 }
func (none) certain() set                              { return 0 }
func (none) unsafe() set                               { return 0 }
func (none) run(_ *run, row []rdf.Term, y yield) error { return y(row) }

// join is of both.
type join struct{ a, b node }

func (j join) vars() set    { return j.a.vars() | j.b.vars() }
func (j join) certain() set { return j.a.certain() | j.b.certain() }
func (j join) unsafe() set  { return j.a.unsafe() | j.b.unsafe() }
func (j join) run(x *run, row []rdf.Term, y yield) error {
	return joined(j.a, x, row, func(row []rdf.Term) error { return joined(j.b, x, row, y) })
}

// union is of any.
type union []node

func (u union) vars() (s set) {
	for _, n := range u {
		s |= n.vars()
	}
	return s
}

func (u union) certain() set {
	s := ^set(0)
	for _, n := range u {
		s &= n.certain()
	}
	return s
}

func (u union) unsafe() (s set) {
	for _, n := range u {
		s |= n.unsafe()
	}
	return s
}

func (u union) run(x *run, row []rdf.Term, y yield) error {
	for _, n := range u {
		if err := joined(n, x, row, y); err != nil {
			return err
		}
	}
	return nil
}

// filter is of what a condition is true of.
type filter struct {
	node
	by *condition
}

func (f filter) unsafe() set {
	return f.node.unsafe() | f.by.uses&f.vars()&^f.certain()
}

func (f filter) run(x *run, row []rdf.Term, y yield) error {
	return f.node.run(x, row, func(row []rdf.Term) error {
		if ok, err := f.by.holds(x, row, f.vars()); err != nil || !ok {
			return err
		}
		return y(row)
	})
}

// leftJoin is of the first, with the second where it is compatible and the
// condition holds; by is nil for none.
type leftJoin struct {
	a, b node
	by   *condition
}

func (l leftJoin) vars() set    { return l.a.vars() | l.b.vars() }
func (l leftJoin) certain() set { return l.a.certain() }
func (l leftJoin) unsafe() set {
	seen := l.b.vars()
	if l.by != nil {
		seen |= l.by.uses & l.vars()
	}
	return l.a.unsafe() | l.b.unsafe() | seen&^l.a.certain()
}

func (l leftJoin) run(x *run, row []rdf.Term, y yield) error {
	return l.a.run(x, row, func(row []rdf.Term) error {
		found := false
		err := joined(l.b, x, row, func(row []rdf.Term) error {
			if l.by != nil {
				if ok, err := l.by.holds(x, row, l.vars()); err != nil || !ok {
					return err
				}
			}
			found = true
			return y(row)
		})
		if err != nil || found {
			return err
		}
		return y(row)
	})
}

// minus is of the first without what shares a value with the second.
type minus struct{ a, b node }

func (m minus) vars() set    { return m.a.vars() }
func (m minus) certain() set { return m.a.certain() }
func (m minus) unsafe() set {
	return m.a.unsafe() | m.b.vars()&m.a.vars()&^m.a.certain()
}

func (m minus) run(x *run, row []rdf.Term, y yield) error {
	return m.a.run(x, row, func(row []rdf.Term) error {
		out := false
		before := slices.Clone(row)
		mine := bound(row) & m.a.vars()
		// What the second binds for certain may be bound before; the rest is
		// compared.
		err := only(row, mine&m.b.certain(), func() error {
			return joined(m.b, x, row, func(row []rdf.Term) error {
				shared := false
				for i := range row {
					if !mine.has(i) || !m.b.vars().has(i) || row[i].Kind == rdf.None {
						continue
					}
					if row[i] != before[i] {
						return nil
					}
					shared = true
				}
				if !shared {
					return nil
				}
				out = true
				return errEnough
			})
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
		if out {
			return nil
		}
		return y(row)
	})
}

// extend gives a variable a value.
type extend struct {
	node
	slot int
	by   *condition
}

func (e extend) vars() set    { return e.node.vars() | 1<<e.slot }
func (e extend) certain() set { return e.node.certain() }
func (e extend) unsafe() set {
	return e.node.unsafe() | e.by.uses&e.node.vars()&^e.node.certain()
}

func (e extend) run(x *run, row []rdf.Term, y yield) error {
	return e.node.run(x, row, func(row []rdf.Term) error {
		value, err := e.by.value(x, row, e.node.vars())
		if err != nil {
			return err
		}
		return bindAll(row, []int{e.slot}, []rdf.Term{value}, y)
	})
}

// bindAll binds slots to values where they are compatible with what the row
// binds already. The zero term binds nothing.
func bindAll(row []rdf.Term, slots []int, values []rdf.Term, y yield) error {
	var added set
	defer func() { added.each(func(i int) { row[i] = rdf.Term{} }) }()
	for n, i := range slots {
		switch {
		case values[n].Kind == rdf.None:
		case row[i].Kind == rdf.None:
			row[i] = values[n]
			added |= 1 << i
		case row[i] != values[n]:
			return nil
		}
	}
	return y(row)
}
