package profile

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Filter says which facts. What is zero in it is any.
type Filter struct {
	IDs                        []int64
	Subject, Predicate, Object rdf.Term
	// Entity is of facts that have it anywhere.
	Entity rdf.Term
	Source string
	// At is when they held; the zero time is the present.
	At time.Time
	// History finds them whenever they held instead.
	History bool
	// After is the last fact of the page before, and Limit 0 for no end.
	After int64
	Limit int
}

func (f Filter) empty() bool {
	return len(f.IDs) == 0 && f.Subject == rdf.Term{} && f.Predicate == rdf.Term{} && f.Object == rdf.Term{} && f.Entity == rdf.Term{} && f.Source == ""
}

// check sees that what is asked for can be.
func (f Filter) check() error {
	for _, part := range []struct {
		name string
		term rdf.Term
	}{{"subject", f.Subject}, {"predicate", f.Predicate}, {"entity", f.Entity}, {"object", f.Object}} {
		if part.term.Kind == rdf.None {
			continue
		}
		if part.name != "object" && part.term.Kind != rdf.IRI {
			return refused(part.name, "want an IRI")
		}
		if err := part.term.Check(); err != nil {
			return refused(part.name, "%w", err)
		}
	}
	if f.Source != "" {
		return CheckSource(f.Source)
	}
	return nil
}

// where makes the condition of a filter; ok is false where it can find nothing.
func (f Filter) where(d *dictionary) (text string, args []any, ok bool, err error) {
	var b strings.Builder
	args = []any{moment(f.At), f.After}
	b.WriteString("f.id > ?2")
	if f.History {
		b.WriteString(" AND ?1 = ?1")
	} else {
		b.WriteString(" AND f.asserted_at <= ?1 AND (f.retracted_at IS NULL OR f.retracted_at > ?1)")
	}
	for _, part := range []struct {
		condition string
		term      rdf.Term
	}{{"t.subject = ?%d", f.Subject}, {"t.predicate = ?%d", f.Predicate}, {"t.object = ?%d", f.Object},
		{"t.id IN (SELECT id FROM triples WHERE subject = ?%[1]d UNION SELECT id FROM triples WHERE object = ?%[1]d UNION SELECT id FROM triples WHERE predicate = ?%[1]d)", f.Entity}} {
		if part.term.Kind == rdf.None {
			continue
		}
		id, err := d.id(part.term)
		if err != nil || id == 0 {
			return "", nil, false, err
		}
		args = append(args, id)
		fmt.Fprintf(&b, " AND "+part.condition, len(args))
	}
	if f.Source != "" {
		args = append(args, f.Source)
		fmt.Fprintf(&b, " AND n.name = ?%d", len(args))
	}
	if len(f.IDs) > 0 {
		// As JSON, since there may be any number of them.
		ids, err := json.Marshal(f.IDs)
		if err != nil {
			return "", nil, false, err
		}
		args = append(args, string(ids))
		fmt.Fprintf(&b, " AND f.id IN (SELECT value FROM json_each(?%d))", len(args))
	}
	return b.String(), args, true, nil
}

// find calls each with the facts of a filter, in the order of their numbers.
func find(tx *store.Tx, f Filter, each func(Fact) error) error {
	d := newDictionary(tx)
	where, args, ok, err := f.where(d)
	if err != nil || !ok {
		return err
	}
	limit := -1
	if f.Limit > 0 {
		limit = f.Limit
	}
	args = append(args, limit)
	return tx.Each(func(rows *sql.Rows) error {
		var fact Fact
		var s, p, o, asserted int64
		var retracted sql.NullInt64
		err := rows.Scan(&fact.ID, &s, &p, &o, &fact.Source, &asserted, &retracted)
		if err != nil {
			return err
		}
		fact.AssertedAt = timeOf(asserted)
		if retracted.Valid {
			fact.RetractedAt = timeOf(retracted.Int64)
		}
		if fact.Triple, err = d.triple(s, p, o); err != nil {
			return err
		}
		return each(fact)
	}, fmt.Sprintf(`SELECT f.id, t.subject, t.predicate, t.object, n.name, f.asserted_at, f.retracted_at
		FROM facts AS f JOIN triples AS t ON t.id = f.triple JOIN sources AS n ON n.id = f.source
		WHERE %s ORDER BY f.id LIMIT ?%d`, where, len(args)), args...)
}

// Facts answers the facts of a filter, and whether others follow. Errors are a
// *FieldError and ErrSlow.
func (s *Store) Facts(ctx context.Context, f Filter) (all []Fact, more bool, err error) {
	if err := f.check(); err != nil {
		return nil, false, err
	}
	limit := f.Limit
	f.Limit++
	err = s.view(ctx, func(tx *store.Tx) error {
		return find(tx, f, func(fact Fact) error { all = append(all, fact); return nil })
	})
	if err != nil {
		return nil, false, fmt.Errorf("reading facts: %w", err)
	}
	if len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}

// Entity answers the triples of an entity at a time, and those of what it has
// that had no name. The error is ErrNotFound where there are none.
func (s *Store) Entity(ctx context.Context, entity rdf.Term, at time.Time) ([]rdf.Triple, error) {
	if err := (Filter{Entity: entity}).check(); err != nil {
		return nil, err
	}
	var all []rdf.Triple
	err := s.view(ctx, func(tx *store.Tx) error {
		all = nil
		g := &graph{newDictionary(tx), moment(at)}
		seen := map[rdf.Term]bool{entity: true}
		for waiting := []rdf.Term{entity}; len(waiting) > 0; {
			next := waiting[0]
			waiting = waiting[1:]
			err := g.Match(rdf.Triple{Subject: next}, func(t rdf.Triple) error {
				if len(all) == MaxTogether {
					return fmt.Errorf("%w: %d facts", ErrLarge, MaxTogether)
				}
				all = append(all, t)
				if t.Object.IsSkolem() && !seen[t.Object] {
					seen[t.Object] = true
					waiting = append(waiting, t.Object)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading an entity: %w", err)
	}
	return all, nil
}

// Everything answers all triples at a time. The error is ErrLarge where they
// are too many.
func (s *Store) Everything(ctx context.Context, at time.Time) (all []rdf.Triple, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		all = nil
		g := &graph{newDictionary(tx), moment(at)}
		return g.Match(rdf.Triple{}, func(t rdf.Triple) error {
			if len(all) == MaxTogether {
				return fmt.Errorf("%w: %d facts", ErrLarge, MaxTogether)
			}
			all = append(all, t)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading everything: %w", err)
	}
	return all, nil
}

// view bounds how long something is read.
func (s *Store) view(ctx context.Context, f func(*store.Tx) error) error {
	bounded, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	err := s.DB.View(bounded, f)
	if err != nil && ctx.Err() == nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
		return ErrSlow
	}
	return err
}

// SourceInUse is a source and what it says.
type SourceInUse struct {
	Source  string `json:"source"`
	Present int64  `json:"present" doc:"how many of its facts hold"`
	Facts   int64  `json:"facts" doc:"how many there are with the history"`
}

// Sources answers who says something, the most first.
func (s *Store) Sources(ctx context.Context) (all []SourceInUse, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		all = nil
		return tx.Each(func(rows *sql.Rows) error {
			var one SourceInUse
			err := rows.Scan(&one.Source, &one.Present, &one.Facts)
			all = append(all, one)
			return err
		}, `SELECT n.name, count(*) FILTER (WHERE f.retracted_at IS NULL), count(*) FROM facts AS f JOIN sources AS n ON n.id = f.source
			GROUP BY n.id ORDER BY count(*) DESC, n.name LIMIT ?`, MaxPage)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the sources: %w", err)
	}
	return all, nil
}

// EntityInUse is a subject of facts, with a number for the next page.
type EntityInUse struct {
	Entity string
	Facts  int64
	Place  int64
}

// Entities answers subjects of facts that hold at a time, and whether others
// follow; after is the place of the last before.
func (s *Store) Entities(ctx context.Context, at time.Time, after int64, limit int) (all []EntityInUse, more bool, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		all = nil
		g := &graph{newDictionary(tx), moment(at)}
		return tx.Each(func(rows *sql.Rows) error {
			var e EntityInUse
			if err := rows.Scan(&e.Place, &e.Facts); err != nil {
				return err
			}
			t, err := g.term(e.Place)
			e.Entity = t.Value
			all = append(all, e)
			return err
		}, "SELECT t.subject, count(*) FROM triples AS t WHERE t.subject > ?2 AND "+held+" GROUP BY t.subject ORDER BY t.subject LIMIT ?3", g.at, after, limit+1)
	})
	if err != nil {
		return nil, false, fmt.Errorf("reading the entities: %w", err)
	}
	if len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}
