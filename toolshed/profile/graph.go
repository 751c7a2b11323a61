package profile

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/query"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/profile/sparql"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// held is of the triples t that somebody said at the time ?1 and that were not
// retracted by then.
const held = `EXISTS (SELECT 1 FROM facts AS f WHERE f.triple = t.id AND f.asserted_at <= ?1 AND (f.retracted_at IS NULL OR f.retracted_at > ?1))`

// graph is the triples that hold at a time, in one transaction.
type graph struct {
	*dictionary
	at int64
}

var _ query.Graph = (*graph)(nil)

// where makes the condition of a pattern; ok is false where a term of it is in
// no fact.
func (g *graph) where(p rdf.Triple) (text string, args []any, ok bool, err error) {
	var b strings.Builder
	args = []any{g.at}
	for _, part := range []struct {
		column string
		term   rdf.Term
	}{{"subject", p.Subject}, {"predicate", p.Predicate}, {"object", p.Object}} {
		if part.term.Kind == rdf.None {
			continue
		}
		id, err := g.id(part.term)
		if err != nil || id == 0 {
			return "", nil, false, err
		}
		args = append(args, id)
		fmt.Fprintf(&b, " AND t.%s = ?%d", part.column, len(args))
	}
	return b.String(), args, true, nil
}

// Match finds the triples of a pattern by an index that begins with what it
// knows.
func (g *graph) Match(p rdf.Triple, found func(rdf.Triple) error) error {
	where, args, ok, err := g.where(p)
	if err != nil || !ok {
		return err
	}
	return g.tx.Each(func(rows *sql.Rows) error {
		var s, p, o int64
		if err := rows.Scan(&s, &p, &o); err != nil {
			return err
		}
		t, err := g.triple(s, p, o)
		if err != nil {
			return err
		}
		return found(t)
	}, "SELECT t.subject, t.predicate, t.object FROM triples AS t WHERE "+held+where, args...)
}

// maxCounted bounds what an estimate counts.
const maxCounted = 10_000

// Estimate counts triples, whenever they held.
func (g *graph) Estimate(p rdf.Triple) (n int64, err error) {
	where, args, ok, err := g.where(p)
	if err != nil || !ok {
		return 0, err
	}
	// The time is named so that the parameters keep their numbers.
	err = g.tx.QueryRow(fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM triples AS t WHERE ?1 = ?1%s LIMIT %d)", where, maxCounted), args...).Scan(&n)
	return n, err
}

// Query answers a query over the facts that held at a time; the zero time is
// the present. Errors are a *sparql.Error, ErrSlow and those of package query.
func (s *Store) Query(ctx context.Context, q *sparql.Query, at time.Time) (r *query.Result, err error) {
	bounded, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	select {
	case s.asking <- struct{}{}:
		defer func() { <-s.asking }()
	case <-bounded.Done():
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("answering a query: %w", err)
		}
		return nil, ErrSlow
	}
	err = s.DB.View(bounded, func(tx *store.Tx) error {
		g := &graph{newDictionary(tx), moment(at)}
		r, err = query.Run(bounded, g, q, query.Limits{Rows: queryRows, Bytes: queryBytes}, s.Now())
		return err
	})
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return nil, ErrSlow
	}
	if err != nil {
		return nil, fmt.Errorf("answering a query: %w", err)
	}
	return r, nil
}
