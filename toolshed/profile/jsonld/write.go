package jsonld

import (
	"encoding/json"
	"strconv"

	"github.com/piprate/json-gold/ld"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// Write is triples as an expanded document: a node for each subject, in the
// order in which they come. Lists are written as lists.
func Write(triples []rdf.Triple) []any {
	w := &writer{nodes: map[rdf.Term]map[string]any{}, cells: cellsOf(triples)}
	for _, t := range triples {
		if _, cell := w.cells[t.Subject]; !cell {
			w.add(t)
		}
	}
	all := make([]any, 0, len(w.order))
	for _, s := range w.order {
		all = append(all, w.nodes[s])
	}
	return all
}

type writer struct {
	nodes map[rdf.Term]map[string]any
	order []rdf.Term
	cells map[rdf.Term]cell
}

func (w *writer) add(t rdf.Triple) {
	node := w.nodes[t.Subject]
	if node == nil {
		node = map[string]any{"@id": t.Subject.Value}
		w.nodes[t.Subject] = node
		w.order = append(w.order, t.Subject)
	}
	property, value := t.Predicate.Value, w.value(t.Object)
	if property == rdf.Type && t.Object.Kind == rdf.IRI {
		property, value = "@type", t.Object.Value
	}
	values, _ := node[property].([]any)
	node[property] = append(values, value)
}

func (w *writer) value(t rdf.Term) any {
	if _, is := w.cells[t]; is || t == rdf.NewIRI(rdf.Nil) {
		items := []any{}
		for c, ok := w.cells[t]; ok; c, ok = w.cells[c.rest] {
			items = append(items, w.value(c.first))
		}
		return map[string]any{"@list": items}
	}
	switch {
	case t.Kind == rdf.IRI:
		return map[string]any{"@id": t.Value}
	case t.Language != "":
		return map[string]any{"@value": t.Value, "@language": t.Language}
	case t.Datatype == rdf.String:
		return map[string]any{"@value": t.Value}
	case t.Datatype == rdf.JSON:
		var v any
		if err := json.Unmarshal([]byte(t.Value), &v); err == nil {
			if text, err := plainJSON(v); err == nil && text == t.Value {
				return map[string]any{"@value": v, "@type": "@json"}
			}
		}
	}
	if v, ok := native(t); ok {
		return map[string]any{"@value": v}
	}
	return map[string]any{"@value": t.Value, "@type": t.Datatype}
}

// native is a value that JSON has, where reading it gives the same text again.
func native(t rdf.Term) (any, bool) {
	switch t.Datatype {
	case rdf.Boolean:
		return t.Value == "true", t.Value == "true" || t.Value == "false"
	case rdf.Integer:
		n, err := strconv.ParseInt(t.Value, 10, 64)
		return float64(n), err == nil && n < maxWhole && n > -maxWhole && strconv.FormatInt(n, 10) == t.Value
	case rdf.Double:
		f, err := strconv.ParseFloat(t.Value, 64)
		return f, err == nil && rdf.DoubleText(f) == t.Value && f != float64(int64(f))
	}
	return nil, false
}

// cell is one of a list.
type cell struct{ first, rest rdf.Term }

// cellsOf are the cells that can be written as lists: they had no name, have
// one value and one rest and nothing else, and one thing has them.
func cellsOf(triples []rdf.Triple) map[rdf.Term]cell {
	all, facts, uses := map[rdf.Term]cell{}, map[rdf.Term]int{}, map[rdf.Term]int{}
	for _, t := range triples {
		uses[t.Object]++
		facts[t.Subject]++
		c := all[t.Subject]
		switch {
		case !t.Subject.IsSkolem():
			continue
		case t.Predicate.Value == rdf.First:
			c.first = t.Object
		case t.Predicate.Value == rdf.Rest:
			c.rest = t.Object
		default:
			continue
		}
		all[t.Subject] = c
	}
	whole := map[rdf.Term]cell{}
	for head := range all {
		collect(head, all, facts, uses, whole)
	}
	return whole
}

// collect takes a cell and those behind it, if all of them to the end can be
// written.
func collect(head rdf.Term, all map[rdf.Term]cell, facts, uses map[rdf.Term]int, whole map[rdf.Term]cell) {
	var chain []rdf.Term
	at := head
	for at.Value != rdf.Nil {
		c, ok := all[at]
		if !ok || facts[at] != 2 || uses[at] != 1 || c.first.Kind == rdf.None || c.rest.Kind == rdf.None || len(chain) > len(all) {
			return
		}
		chain = append(chain, at)
		at = c.rest
	}
	for _, t := range chain {
		whole[t] = all[t]
	}
}

// Compact writes an expanded document by a context. The error is ErrDocument.
func Compact(expanded []any, context any) (map[string]any, error) {
	return guarded(func(p *ld.JsonLdProcessor) (map[string]any, error) {
		return p.Compact(expanded, map[string]any{"@context": context}, options())
	})
}

// Decode reads a context or a frame, which is JSON of bounded nesting. The
// error is ErrDocument.
func Decode(text []byte) (any, error) { return decode(text) }
