package profile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Added is what became of facts that were added.
type Added struct {
	// Facts are their numbers, in the order in which they came.
	Facts []int64
	// New is how many were not there.
	New int
	At  time.Time
	// Warnings are what hints say that are only to warn.
	Warnings []string
}

// CheckSource sees that a text can be the name of a source.
func CheckSource(name string) error {
	if name == "" || len(name) > MaxSourceBytes || !utf8.ValidString(name) {
		return refused("source", "want who says so, in 1 to %d bytes", MaxSourceBytes)
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f {
			return refused("source", "has a control character")
		}
	}
	return nil
}

// Add keeps facts of a source. What it says already is left as it is. Errors
// are a *FieldError, ErrQuota and store.ErrFull.
func (s *Store) Add(ctx context.Context, source string, all []rdf.Triple) (a Added, err error) {
	if err := CheckSource(source); err != nil {
		return a, err
	}
	if len(all) == 0 || len(all) > MaxFacts {
		return a, refused("facts", "there are %d, want 1 to %d", len(all), MaxFacts)
	}
	for i, t := range all {
		if err := checkTriple(t); err != nil {
			return a, refused(fmt.Sprintf("facts[%d]", i), "%w", err)
		}
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		a, err = s.add(tx, source, all)
		return err
	})
	if err != nil {
		return Added{}, fmt.Errorf("adding facts: %w", err)
	}
	s.publish(Event{Op: OpAdded, At: a.At, Count: int64(a.New), Source: source, Entities: entities(all)})
	return a, nil
}

func checkTriple(t rdf.Triple) error {
	for _, part := range []struct {
		name string
		term rdf.Term
	}{{"subject", t.Subject}, {"predicate", t.Predicate}, {"object", t.Object}} {
		if part.name != "object" && part.term.Kind != rdf.IRI {
			return fmt.Errorf("%s: want an IRI", part.name)
		}
		if err := part.term.Check(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// entities are some of those that facts are of.
func entities(all []rdf.Triple) (names []string) {
	for _, t := range all {
		if len(names) == maxTold {
			break
		}
		if !slices.Contains(names, t.Subject.Value) {
			names = append(names, t.Subject.Value)
		}
	}
	return names
}

func (s *Store) add(tx *store.Tx, source string, all []rdf.Triple) (a Added, err error) {
	before, err := used(tx)
	if err != nil {
		return a, err
	}
	at, err := s.tick(tx)
	if err != nil {
		return a, err
	}
	a.At = timeOf(at)
	by, err := keepSource(tx, source)
	if err != nil {
		return a, err
	}
	judges := map[string]*judge{}
	for i, t := range all {
		id, isNew, err := addOne(tx, t, by, at)
		if err != nil {
			return a, err
		}
		a.Facts = append(a.Facts, id)
		if !isNew {
			continue
		}
		a.New++
		said, err := hinted(tx, judges, t)
		if err != nil {
			return a, inFact(i, err)
		}
		if said != "" && len(a.Warnings) < maxWarnings {
			a.Warnings = append(a.Warnings, fmt.Sprintf("facts[%d].%s", i, said))
		}
	}
	after, err := used(tx)
	if err != nil {
		return a, err
	}
	if after > before && after > s.Quota {
		return a, fmt.Errorf("%w: %d", ErrQuota, s.Quota)
	}
	return a, nil
}

const maxWarnings = 100

// used are the bytes of the database's pages that hold something.
func used(tx *store.Tx) (n int64, err error) {
	err = tx.QueryRow("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&n)
	return n, err
}

func inFact(i int, err error) error {
	if f, ok := errors.AsType[*FieldError](err); ok {
		return &FieldError{fmt.Sprintf("facts[%d].%s", i, f.Field), f.Err}
	}
	return err
}

func keepSource(tx *store.Tx, name string) (id int64, err error) {
	err = tx.QueryRow("SELECT id FROM sources WHERE name = ?", name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRow("INSERT INTO sources (name) VALUES (?) RETURNING id", name).Scan(&id)
	}
	return id, err
}

// addOne adds a fact unless its source says it.
func addOne(tx *store.Tx, t rdf.Triple, source, at int64) (id int64, isNew bool, err error) {
	var parts [3]int64
	for i, term := range []rdf.Term{t.Subject, t.Predicate, t.Object} {
		if parts[i], err = keepTerm(tx, term); err != nil {
			return 0, false, err
		}
	}
	var triple int64
	err = tx.QueryRow("SELECT id FROM triples WHERE subject = ? AND predicate = ? AND object = ?", parts[0], parts[1], parts[2]).Scan(&triple)
	if errors.Is(err, sql.ErrNoRows) {
		err = tx.QueryRow("INSERT INTO triples (subject, predicate, object) VALUES (?, ?, ?) RETURNING id", parts[0], parts[1], parts[2]).Scan(&triple)
	}
	if err != nil {
		return 0, false, err
	}
	err = tx.QueryRow("SELECT id FROM facts WHERE triple = ? AND source = ? AND retracted_at IS NULL", triple, source).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) {
		return id, false, err
	}
	err = tx.QueryRow("INSERT INTO facts (triple, source, asserted_at) VALUES (?, ?, ?) RETURNING id", triple, source, at).Scan(&id)
	return id, true, err
}

// Retract says of the facts that a filter finds that they are no longer so. It
// answers how many there were. Errors are a *FieldError and store.ErrFull.
func (s *Store) Retract(ctx context.Context, f Filter) (n int64, err error) {
	if f.empty() {
		return 0, refused("facts", "say which: by their numbers, a subject, a predicate, an object or a source")
	}
	if err := f.check(); err != nil {
		return 0, err
	}
	var at int64
	var about []rdf.Triple
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		n, about = 0, nil
		if at, err = s.tick(tx); err != nil {
			return err
		}
		f.At = time.Time{}
		// What is found is read before anything is changed.
		var ids []int64
		err := find(tx, f, func(fact Fact) error {
			ids = append(ids, fact.ID)
			if len(about) < maxTold {
				about = append(about, fact.Triple)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := tx.Exec("UPDATE facts SET retracted_at = ? WHERE id = ?", at, id); err != nil {
				return err
			}
		}
		n = int64(len(ids))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("retracting facts: %w", err)
	}
	s.publish(Event{Op: OpRetracted, At: timeOf(at), Count: n, Source: f.Source, Entities: entities(about)})
	return n, nil
}
