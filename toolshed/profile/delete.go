package profile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Delete removes one fact with its history. Errors are ErrNotFound and
// ErrNotErased.
func (s *Store) Delete(ctx context.Context, id int64) error {
	_, err := s.erase(ctx, func(tx *store.Tx) (r removed, err error) {
		var triple int64
		err = tx.QueryRow("DELETE FROM facts WHERE id = ? RETURNING triple", id).Scan(&triple)
		if errors.Is(err, sql.ErrNoRows) {
			return r, nil
		}
		return removed{facts: 1, triples: []int64{triple}}, err
	})
	return err
}

// DeleteEntity removes every fact that has an entity in it, those of what it
// alone has that had no name, and what hints say of it. It answers how many
// facts there were. Errors are a *FieldError, ErrNotFound and ErrNotErased.
func (s *Store) DeleteEntity(ctx context.Context, entity rdf.Term) (int64, error) {
	if err := (Filter{Entity: entity}).check(); err != nil {
		return 0, err
	}
	return s.erase(ctx, func(tx *store.Tx) (r removed, err error) {
		if r.hints, err = affected(tx.Exec("DELETE FROM hints WHERE predicate = ?", entity.Value)); err != nil {
			return r, err
		}
		for waiting := []rdf.Term{entity}; len(waiting) > 0; waiting = waiting[1:] {
			triples, nameless, err := about(tx, waiting[0])
			if err != nil {
				return r, err
			}
			for _, t := range triples {
				n, err := affected(tx.Exec("DELETE FROM facts WHERE triple = ?", t))
				if err != nil {
					return r, err
				}
				r.facts += n
			}
			if err := removeTriples(tx, triples); err != nil {
				return r, err
			}
			for _, n := range nameless {
				if used, err := mentioned(tx, n); err != nil {
					return r, err
				} else if !used {
					waiting = append(waiting, n)
				}
			}
		}
		return r, nil
	})
}

func affected(done sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// about are the triples that have a term, and the terms without a name that it
// has.
func about(tx *store.Tx, term rdf.Term) (triples []int64, nameless []rdf.Term, err error) {
	id, err := termID(tx, term)
	if err != nil || id == 0 {
		return nil, nil, err
	}
	d := newDictionary(tx)
	err = tx.Each(func(rows *sql.Rows) error {
		var triple, s, o int64
		if err := rows.Scan(&triple, &s, &o); err != nil {
			return err
		}
		triples = append(triples, triple)
		if s != id {
			return nil
		}
		object, err := d.term(o)
		if err == nil && object.IsSkolem() {
			nameless = append(nameless, object)
		}
		return err
	}, `SELECT id, subject, object FROM triples WHERE subject = ?1
		UNION SELECT id, subject, object FROM triples WHERE object = ?1
		UNION SELECT id, subject, object FROM triples WHERE predicate = ?1`, id)
	return triples, nameless, err
}

// mentioned reports whether a term is what some fact says of something.
func mentioned(tx *store.Tx, term rdf.Term) (is bool, err error) {
	id, err := termID(tx, term)
	if err != nil || id == 0 {
		return false, err
	}
	err = tx.QueryRow("SELECT EXISTS (SELECT 1 FROM triples WHERE object = ?)", id).Scan(&is)
	return is, err
}

// DeleteSource removes every fact of a source. It answers how many there were.
// Errors are a *FieldError, ErrNotFound and ErrNotErased.
func (s *Store) DeleteSource(ctx context.Context, name string) (int64, error) {
	if err := CheckSource(name); err != nil {
		return 0, err
	}
	return s.erase(ctx, func(tx *store.Tx) (r removed, err error) {
		err = tx.Each(func(rows *sql.Rows) error {
			var t int64
			err := rows.Scan(&t)
			r.triples = append(r.triples, t)
			return err
		}, "SELECT f.triple FROM facts AS f JOIN sources AS n ON n.id = f.source WHERE n.name = ?", name)
		if err != nil {
			return r, err
		}
		r.facts, err = affected(tx.Exec("DELETE FROM facts WHERE source = (SELECT id FROM sources WHERE name = ?)", name))
		return r, err
	})
}

// removed is what a deletion has removed, and the triples that may be nobody's
// any more.
type removed struct {
	facts, hints int64
	triples      []int64
}

// erase removes what a function does, then what nobody says any more, and sees
// that none of it is left on the disk, nor of what an earlier deletion could not
// erase.
func (s *Store) erase(ctx context.Context, remove func(*store.Tx) (removed, error)) (int64, error) {
	var at int64
	var r removed
	var erasing bool
	err := s.DB.Free(ctx, func(tx *store.Tx) (err error) {
		if at, err = s.tick(tx); err != nil {
			return err
		}
		if r, err = remove(tx); err != nil {
			return err
		}
		if err := removeTriples(tx, r.triples); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM sources WHERE NOT EXISTS (SELECT 1 FROM facts WHERE facts.source = sources.id)"); err != nil {
			return err
		}
		return tx.QueryRow("UPDATE times SET erasing = erasing OR ? RETURNING erasing", r.facts+r.hints > 0).Scan(&erasing)
	})
	if err != nil {
		return 0, fmt.Errorf("deleting facts: %w", err)
	}
	s.publish(Event{Op: OpDeleted, At: timeOf(at), Count: r.facts})
	if erasing {
		// What was begun is not left because its caller is gone.
		if err := s.finishErasing(context.WithoutCancel(ctx)); err != nil {
			return r.facts, err
		}
	}
	if r.facts+r.hints == 0 {
		return 0, ErrNotFound
	}
	return r.facts, nil
}

// finishErasing sees that what was deleted is in no file. The error is
// ErrNotErased where that has to wait.
func (s *Store) finishErasing(ctx context.Context) error {
	err := s.DB.Erase(ctx)
	if errors.Is(err, store.ErrBusy) || errors.Is(err, store.ErrFull) {
		return fmt.Errorf("%w: %w", ErrNotErased, err)
	}
	if err != nil {
		return err
	}
	err = s.DB.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE times SET erasing = 0")
		return err
	})
	if err != nil {
		return fmt.Errorf("erasing facts: %w", err)
	}
	return nil
}

// removeTriples removes those that nobody says any more, and the terms that
// only they had.
func removeTriples(tx *store.Tx, triples []int64) error {
	for _, t := range triples {
		var terms [3]int64
		err := tx.QueryRow(`DELETE FROM triples WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM facts WHERE triple = ?1)
			RETURNING subject, predicate, object`, t).Scan(&terms[0], &terms[1], &terms[2])
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return err
		}
		for _, id := range terms {
			_, err := tx.Exec(`DELETE FROM terms WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM triples WHERE subject = ?1)
				AND NOT EXISTS (SELECT 1 FROM triples WHERE predicate = ?1) AND NOT EXISTS (SELECT 1 FROM triples WHERE object = ?1)`, id)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
