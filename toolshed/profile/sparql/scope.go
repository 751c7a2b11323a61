package sparql

import "slices"

// InScope are the variables that a group, and the values behind it, can bind,
// in the order of their appearance. Blank nodes are none.
func InScope(g Group, behind *Values) []string {
	var names []string
	add := func(more ...string) {
		for _, name := range more {
			if name != "" && name[0] != '_' && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	inScope(g, add)
	if behind != nil {
		add(behind.Names...)
	}
	return names
}

func inScope(g Group, add func(...string)) {
	for _, e := range g.Elements {
		switch e := e.(type) {
		case Group:
			inScope(e, add)
		case Triples:
			for _, t := range e.Patterns {
				add(t.Subject.Name, t.Predicate.Name, t.Object.Name)
			}
		case Optional:
			inScope(e.Group, add)
		case Union:
			for _, one := range e.Groups {
				inScope(one, add)
			}
		case Bind:
			add(e.Name)
		case *Values:
			add(e.Names...)
		case *Subquery:
			for _, s := range e.Query.Select {
				add(s.Name)
			}
		}
	}
}

// walk visits an expression and what it is made of, where visit says so. Groups
// are not looked into.
func walk(e Expression, visit func(Expression) bool) {
	if e == nil || !visit(e) {
		return
	}
	switch e := e.(type) {
	case Call:
		for _, a := range e.Args {
			walk(a, visit)
		}
	case *Aggregate:
		walk(e.Arg, visit)
	}
}

// Walk visits an expression and what it is made of, where visit says so. Groups
// are not looked into.
func Walk(e Expression, visit func(Expression) bool) { walk(e, visit) }

// Aggregates reports whether an expression has an aggregate in it.
func Aggregates(e Expression) bool {
	found := false
	walk(e, func(e Expression) bool {
		_, is := e.(*Aggregate)
		found = found || is
		return !found
	})
	return found
}
