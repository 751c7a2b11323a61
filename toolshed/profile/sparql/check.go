package sparql

import (
	"errors"
	"slices"
)

// Unsupported reports whether an error is of what SPARQL has and this subset
// has not.
func Unsupported(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Unsupported
}

// check sees that what is selected can be.
func check(q *Query) error {
	scope := InScope(q.Where, q.Values)
	grouped := map[string]bool{}
	for _, g := range q.GroupBy {
		if g.Name != "" && g.As != nil && slices.Contains(scope, g.Name) {
			return wrong(0, 0, "GROUP BY gives ?%s a value, and it has one", g.Name)
		}
		grouped[g.Name] = true
	}
	seen := map[string]bool{}
	aggregated := q.Grouped
	for _, s := range q.Select {
		aggregated = aggregated || Aggregates(s.As)
	}
	for _, o := range q.OrderBy {
		aggregated = aggregated || Aggregates(o.By)
	}
	q.Grouped = aggregated
	for _, s := range q.Select {
		if s.As != nil && (slices.Contains(scope, s.Name) || seen[s.Name]) {
			return wrong(0, 0, "SELECT gives ?%s a value, and it has one", s.Name)
		}
		seen[s.Name] = true
		if !aggregated {
			continue
		}
		for _, name := range outside(s) {
			if !grouped[name] && !seenBefore(q.Select, s.Name, name) {
				return wrong(0, 0, "?%s is selected from groups, and is neither grouped by nor aggregated", name)
			}
		}
	}
	return nil
}

// outside are the variables of a selection that stand in no aggregate.
func outside(s Selection) []string {
	if s.As == nil {
		return []string{s.Name}
	}
	var names []string
	walk(s.As, func(e Expression) bool {
		if v, ok := e.(Variable); ok {
			names = append(names, v.Name)
		}
		_, aggregate := e.(*Aggregate)
		return !aggregate
	})
	return names
}

// seenBefore reports whether a name is selected by an expression before
// another.
func seenBefore(all []Selection, before, name string) bool {
	for _, s := range all {
		if s.Name == before {
			return false
		}
		if s.Name == name && s.As != nil {
			return true
		}
	}
	return false
}
