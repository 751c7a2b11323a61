package data

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Query asks for documents of a collection.
type Query struct {
	Collection string
	// Filter is in MongoDB's words; nil for all.
	Filter json.RawMessage
	// Sort are paths, with a - in front for descending; the id breaks ties.
	Sort        []string
	Limit, Skip int
}

const maxSort = 4

// compile answers what stands behind FROM.
func (q Query) compile() (where, order string, args []any, err error) {
	if !validName.MatchString(q.Collection) {
		return "", "", nil, refused("collection", "want lower case letters, digits, _ and -, at most 64")
	}
	if len(q.Sort) > maxSort {
		return "", "", nil, refused("sort", "there are %d, at most %d", len(q.Sort), maxSort)
	}
	c, err := compileFilter(q.Filter)
	if err != nil {
		return "", "", nil, err
	}
	var b strings.Builder
	for i, text := range q.Sort {
		path, down := strings.CutPrefix(text, "-")
		if !validPath.MatchString(path) {
			return "", "", nil, refused(fmt.Sprintf("sort[%d]", i), "want a path, with a - in front for descending")
		}
		b.WriteString(valueAt(path) + map[bool]string{true: " DESC", false: ""}[down] + ", ")
	}
	// The name as it is, so that SQLite sees that an index is of this
	// collection.
	return "documents WHERE collection = '" + q.Collection + "' AND " + c.sql.String(), b.String() + "id", c.args, nil
}

// Find answers a page of documents, and whether others follow. Errors are a
// *FieldError and ErrSlow.
func (s *Store) Find(ctx context.Context, q Query) (all []Document, more bool, err error) {
	where, order, args, err := q.compile()
	if err != nil {
		return nil, false, err
	}
	bytes := 0
	err = s.view(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			d := Document{Collection: q.Collection}
			var at int64
			var body string
			if err := rows.Scan(&d.ID, &d.Version, &at, &body); err != nil {
				return err
			}
			if more = len(all) == q.Limit || len(all) > 0 && bytes+len(body) > maxAnswerBytes; more {
				return errEnough
			}
			bytes += len(body)
			d.UpdatedAt, d.Body = time.UnixMilli(at).UTC(), json.RawMessage(body)
			all = append(all, d)
			return nil
		}, "SELECT id, version, updated_at, body FROM "+where+" ORDER BY "+order+" LIMIT ? OFFSET ?", append(args, q.Limit+1, q.Skip)...)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, false, fmt.Errorf("finding documents: %w", err)
	}
	return all, more, nil
}

var errEnough = errors.New("enough")

// Count answers how many documents a query is of.
func (s *Store) Count(ctx context.Context, q Query) (n int64, err error) {
	where, _, args, err := q.compile()
	if err != nil {
		return 0, err
	}
	err = s.view(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM "+where, args...).Scan(&n) })
	if err != nil {
		return 0, fmt.Errorf("counting documents: %w", err)
	}
	return n, nil
}

// view bounds how long a query takes.
func (s *Store) view(ctx context.Context, f func(*store.Tx) error) error {
	bounded, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	err := s.db.View(bounded, f)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return ErrSlow
	}
	return err
}

// Change is a line of the feed.
type Change struct {
	Version    int64           `json:"version"`
	Collection string          `json:"collection"`
	ID         string          `json:"id,omitempty"`
	Op         string          `json:"op" enum:"put,delete,drop"`
	At         time.Time       `json:"at"`
	Document   json.RawMessage `json:"document,omitempty" doc:"as it is now, where it was asked for"`
}

// Feed is where to go on from, and what of the changes to answer.
type Feed struct {
	After      int64
	Collection string
	// Documents adds each document as it is now.
	Documents bool
	Limit     int
}

// Changes answers the changes after a version, and the version to go on from.
// The error is ErrGone where some of them are no longer kept.
func (s *Store) Changes(ctx context.Context, f Feed) (all []Change, next int64, err error) {
	next = f.After
	bytes := 0
	err = s.view(ctx, func(tx *store.Tx) error {
		var last int64
		if err := tx.QueryRow("SELECT last FROM versions").Scan(&last); err != nil {
			return err
		}
		if f.After < last-KeptChanges {
			return fmt.Errorf("%w: it begins after version %d", ErrGone, last-KeptChanges)
		}
		next = max(last, f.After)
		return tx.Each(func(rows *sql.Rows) error {
			var c Change
			var at int64
			var body sql.NullString
			if err := rows.Scan(&c.Version, &c.Collection, &c.ID, &c.Op, &at, &body); err != nil {
				return err
			}
			if len(all) == f.Limit || len(all) > 0 && bytes+len(body.String) > maxAnswerBytes {
				next = all[len(all)-1].Version
				return errEnough
			}
			bytes += len(body.String)
			if body.Valid {
				c.Document = json.RawMessage(body.String)
			}
			c.At = time.UnixMilli(at).UTC()
			all = append(all, c)
			return nil
		}, `SELECT c.version, c.collection, c.id, c.op, c.at, d.body FROM changes AS c
			LEFT JOIN documents AS d ON ?3 AND d.collection = c.collection AND d.id = c.id
			WHERE c.version > ?1 AND (?2 = '' OR c.collection = ?2) ORDER BY c.version LIMIT ?4`,
			f.After, f.Collection, f.Documents, f.Limit+1)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, 0, fmt.Errorf("reading the feed: %w", err)
	}
	return all, next, nil
}
