package kv

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/kv/key"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Range is the keys from Start on, before End, at most Limit of them, the last
// first where it is in Reverse.
type Range struct {
	Start, End []byte
	Limit      int
	Reverse    bool
}

// only is the range of one key.
func only(encoded []byte) Range {
	return Range{Start: encoded, End: key.After(encoded), Limit: 1}
}

// Get answers one entry. The error is ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, encoded []byte) (Entry, error) {
	found, err := s.Read(ctx, only(encoded))
	if err != nil {
		return Entry{}, err
	}
	if len(found[0]) == 0 {
		return Entry{}, ErrNotFound
	}
	return found[0][0], nil
}

// Read answers the entries of each range, of one state. The error is
// ErrTooLarge where they are more than MaxReadBytes.
func (s *Store) Read(ctx context.Context, ranges ...Range) ([][]Entry, error) {
	found, whole, err := s.read(ctx, ranges, MaxReadBytes)
	if err == nil && !whole {
		err = fmt.Errorf("%w: the entries have more than %d bytes: read fewer at once", ErrTooLarge, MaxReadBytes)
	}
	return found, err
}

// ReadSome is Read for one range, of which it answers what fits, but one entry
// at least. More says whether others follow.
func (s *Store) ReadSome(ctx context.Context, r Range) (entries []Entry, more bool, err error) {
	limit := r.Limit
	r.Limit++
	found, whole, err := s.read(ctx, []Range{r}, MaxReadBytes/4)
	if err != nil {
		return nil, false, err
	}
	entries = found[0]
	return entries[:min(limit, len(entries))], !whole || len(entries) > limit, nil
}

const columns = "SELECT key, value, encoding, version, updated_at, expires_at FROM entries WHERE key >= ? AND key < ? AND expires_at > ? ORDER BY key"

// read stops, not whole, before the entry with which there would be more than
// so many bytes, unless it is the first.
func (s *Store) read(ctx context.Context, ranges []Range, most int) (found [][]Entry, whole bool, err error) {
	found = make([][]Entry, len(ranges))
	now, bytes := s.now().UnixMilli(), 0
	err = s.db.View(ctx, func(tx *store.Tx) error {
		for i, r := range ranges {
			query := columns + " LIMIT ?"
			if r.Reverse {
				query = columns + " DESC LIMIT ?"
			}
			err := tx.Each(func(rows *sql.Rows) error {
				e, err := scan(rows)
				if err != nil {
					return err
				}
				if bytes > 0 && bytes+len(e.Key)+len(e.Value.Data) > most {
					return errEnough
				}
				bytes += len(e.Key) + len(e.Value.Data)
				found[i] = append(found[i], e)
				return nil
			}, query, notNil(r.Start), notNil(r.End), now, r.Limit)
			if err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err == nil:
		return found, true, nil
	case isEnough(err):
		return found, false, nil
	}
	return nil, false, fmt.Errorf("reading entries: %w", err)
}

// notNil has the driver bind an empty blob instead of NULL.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func scan(rows *sql.Rows) (Entry, error) {
	var e Entry
	var updated, expires int64
	if err := rows.Scan(&e.Key, &e.Value.Data, &e.Value.Encoding, &e.Version, &updated, &expires); err != nil {
		return Entry{}, err
	}
	e.UpdatedAt = time.UnixMilli(updated).UTC()
	if expires < unwritable {
		e.ExpiresAt = time.UnixMilli(expires).UTC()
	}
	return e, nil
}
