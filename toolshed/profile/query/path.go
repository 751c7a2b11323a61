package query

import (
	"errors"
	"slices"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// between finds the pairs that a path leads between; a zero term is any.
func (x *run) between(p sparql.Path, from, to rdf.Term, pair func(from, to rdf.Term) error) error {
	switch {
	case from.Kind != rdf.None:
		return x.follow(p, from, false, func(t rdf.Term) error {
			if to.Kind != rdf.None && t != to {
				return nil
			}
			return pair(from, t)
		})
	case to.Kind != rdf.None:
		return x.follow(p, to, true, func(t rdf.Term) error { return pair(t, to) })
	}
	starts, err := x.nodes()
	if err != nil {
		return err
	}
	for _, start := range starts {
		if err := x.follow(p, start, false, func(t rdf.Term) error { return pair(start, t) }); err != nil {
			return err
		}
	}
	return nil
}

// nodes are all subjects and objects.
func (x *run) nodes() (all []rdf.Term, err error) {
	seen := map[rdf.Term]bool{}
	err = x.match(rdf.Triple{}, func(t rdf.Triple) error {
		for _, one := range []rdf.Term{t.Subject, t.Object} {
			if seen[one] {
				continue
			}
			seen[one] = true
			all = append(all, one)
			if err := x.hold([]rdf.Term{one}); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// empty reports whether a path may have no steps.
func empty(p sparql.Path) bool {
	switch p := p.(type) {
	case sparql.Inverse:
		return empty(p.Path)
	case sparql.Sequence:
		return empty(p.First) && empty(p.Then)
	case sparql.Alternative:
		return empty(p.Either) || empty(p.Or)
	case sparql.Repeat:
		return p.None || empty(p.Path)
	}
	return false
}

// mentions reports whether a term is a subject or an object; the zero term is
// any.
func (x *run) mentions(t rdf.Term) (there bool, err error) {
	for _, want := range []rdf.Triple{{Subject: t}, {Object: t}} {
		if t.Kind == rdf.None || there {
			return true, nil
		}
		err := x.match(want, func(rdf.Triple) error { there = true; return errEnough })
		if err != nil && !errors.Is(err, errEnough) {
			return false, err
		}
	}
	return there, nil
}

// follow goes a path from a node, or back to it.
func (x *run) follow(p sparql.Path, from rdf.Term, back bool, to func(rdf.Term) error) error {
	switch p := p.(type) {
	case sparql.Link:
		return x.along(from, rdf.NewIRI(p.Predicate), back, nil, to)
	case sparql.Inverse:
		return x.follow(p.Path, from, !back, to)
	case sparql.Sequence:
		first, then := p.First, p.Then
		if back {
			first, then = then, first
		}
		return x.follow(first, from, back, func(t rdf.Term) error { return x.follow(then, t, back, to) })
	case sparql.Alternative:
		if err := x.follow(p.Either, from, back, to); err != nil {
			return err
		}
		return x.follow(p.Or, from, back, to)
	case sparql.Negated:
		if p.Ahead {
			if err := x.along(from, rdf.Term{}, back, p.Forwards, to); err != nil {
				return err
			}
		}
		if p.Back {
			return x.along(from, rdf.Term{}, !back, p.Backwards, to)
		}
		return nil
	case sparql.Repeat:
		return x.again(p, from, back, to)
	}
	return nil
}

// along goes one predicate, or any but some.
func (x *run) along(from, predicate rdf.Term, back bool, but []string, to func(rdf.Term) error) error {
	want := rdf.Triple{Subject: from, Predicate: predicate}
	if back {
		want = rdf.Triple{Object: from, Predicate: predicate}
	}
	return x.match(want, func(t rdf.Triple) error {
		if slices.Contains(but, t.Predicate.Value) {
			return nil
		}
		if back {
			return to(t.Subject)
		}
		return to(t.Object)
	})
}

// again answers each node that a path reaches once.
func (x *run) again(p sparql.Repeat, from rdf.Term, back bool, to func(rdf.Term) error) error {
	seen := map[rdf.Term]bool{}
	var waiting []rdf.Term
	// What was seen is dropped in the end.
	mine := int64(0)
	defer func() { x.held -= mine }()
	reach := func(t rdf.Term) error {
		if seen[t] {
			return nil
		}
		seen[t] = true
		waiting = append(waiting, t)
		before := x.held
		err := x.hold([]rdf.Term{t})
		mine += x.held - before
		return err
	}
	if p.None {
		if err := reach(from); err != nil {
			return err
		}
	} else if err := x.follow(p.Path, from, back, reach); err != nil {
		return err
	}
	for i := 0; i < len(waiting); i++ {
		if p.Many || i == 0 {
			if err := x.follow(p.Path, waiting[i], back, reach); err != nil {
				return err
			}
		}
		if err := to(waiting[i]); err != nil {
			return err
		}
	}
	return nil
}
