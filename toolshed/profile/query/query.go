// Package query answers queries over a graph of facts.
//
// Invariants: an answer is what SPARQL 1.1 says of the subset that package
// sparql reads, whatever the order in which patterns are matched; solutions
// stream from the graph's indexes, so that what is held at once is the present
// solution and what sorting, grouping and DISTINCT keep, and that is bounded;
// the end of its context ends a query.
package query

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
)

// Graph is what is asked. Its errors end the query and are answered as they
// are.
type Graph interface {
	// Match calls found for each triple that has the pattern's terms, where the
	// zero term is any. What found answers ends it.
	Match(pattern rdf.Triple, found func(rdf.Triple) error) error
	// Estimate guesses how many triples Match would find, cheaply.
	Estimate(pattern rdf.Triple) (int64, error)
}

// Limits are those of one query.
type Limits struct {
	// Rows bounds the answer, Bytes what is held at once.
	Rows  int
	Bytes int64
}

// The sentinels of a query.
var (
	// ErrRows says that the answer has too many rows.
	ErrRows = errors.New("the answer has more rows than are given at once; LIMIT and OFFSET make pages")
	// ErrMemory says that sorting, grouping or DISTINCT would hold too much.
	ErrMemory = errors.New("the query would hold more at once than it may; a FILTER or a LIMIT makes it less")
	// ErrPattern says that a regular expression is too large for the text that it
	// is to be found in, or found too often in it.
	ErrPattern = errors.New("a regular expression would take too long on a text")
)

// Result is an answer.
type Result struct {
	// Ask says that Holds is the answer, and there are no rows.
	Ask, Holds bool
	Names      []string
	// Rows have a term for each name; the zero term is of what is unbound.
	Rows [][]rdf.Term
}

// Run answers a query. Errors are a *sparql.Error, ErrRows, ErrMemory, ErrPattern,
// the context's and the graph's.
func Run(ctx context.Context, g Graph, q *sparql.Query, limits Limits, now time.Time) (*Result, error) {
	x := &run{ctx: ctx, graph: g, limits: limits, now: now, estimates: map[rdf.Triple]int64{}}
	p, err := compile(q)
	if err != nil {
		return nil, err
	}
	r := &Result{Ask: q.Ask}
	for _, s := range q.Select {
		r.Names = append(r.Names, s.Name)
	}
	if q.Ask {
		err := p.solutions(x, func([]rdf.Term) error { r.Holds = true; return errEnough })
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
		return r, nil
	}
	err = p.solutions(x, func(row []rdf.Term) error {
		if len(r.Rows) == limits.Rows {
			return fmt.Errorf("%w: %d", ErrRows, limits.Rows)
		}
		r.Rows = append(r.Rows, slices.Clone(row))
		return x.hold(row)
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// errEnough ends what needs no more solutions.
var errEnough = errors.New("enough")

// run is one query under way.
type run struct {
	ctx    context.Context
	graph  Graph
	limits Limits
	now    time.Time
	held   int64
	steps  int
	worked int
	// outer are the variables that EXISTS has put values in the place of.
	outer set
	// estimates are of the constant parts of patterns.
	estimates map[rdf.Triple]int64
}

// termBytes is what a term takes beside its text.
const termBytes = 64

// hold accounts what is kept.
func (x *run) hold(row []rdf.Term) error {
	for _, t := range row {
		x.held += int64(termBytes + len(t.Value) + len(t.Datatype) + len(t.Language))
	}
	if x.held > x.limits.Bytes {
		return ErrMemory
	}
	return nil
}

// step is called for whatever is tried, and notices the end of the context.
func (x *run) step() error {
	if x.steps++; x.steps%1024 == 0 {
		return x.ctx.Err()
	}
	return nil
}

// workBytes is how much of texts is worked on between two looks at the context.
const workBytes = 1 << 20

// work is called for what takes longer the longer a text is, with its length or
// what stands for it.
func (x *run) work(n int) error {
	if x.worked += n; x.worked < workBytes {
		return nil
	}
	x.worked = 0
	return x.ctx.Err()
}

func (x *run) match(pattern rdf.Triple, found func(rdf.Triple) error) error {
	if pattern.Subject.Kind == rdf.Literal || pattern.Predicate.Kind == rdf.Literal {
		return nil
	}
	if err := x.step(); err != nil {
		return err
	}
	return x.graph.Match(pattern, func(t rdf.Triple) error {
		if err := x.step(); err != nil {
			return err
		}
		return found(t)
	})
}

func (x *run) estimate(pattern rdf.Triple) (int64, error) {
	if n, ok := x.estimates[pattern]; ok {
		return n, nil
	}
	n, err := x.graph.Estimate(pattern)
	if err == nil {
		x.estimates[pattern] = n
	}
	return n, err
}

// set is a set of variables by their slots.
type set uint64

func (s set) has(slot int) bool { return s&(1<<slot) != 0 }

// within reports whether all of it are in another.
func (s set) within(other set) bool { return s&^other == 0 }

// each visits the slots.
func (s set) each(visit func(slot int)) {
	for slot := 0; s != 0; slot, s = slot+1, s>>1 {
		if s&1 != 0 {
			visit(slot)
		}
	}
}

// bound are the variables that a row binds.
func bound(row []rdf.Term) (s set) {
	for i, t := range row {
		if t.Kind != rdf.None {
			s |= 1 << i
		}
	}
	return s
}
