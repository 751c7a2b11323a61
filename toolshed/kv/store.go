// Package kv is a small key-value store.
//
// Invariants: a write that was answered is on disk; keys and values are
// bounded; a reader sees whole values or none; a version names one value for
// ever; on a full disk deleting works, and makes room for writing.
package kv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of what is stored.
const (
	MaxKeyBytes   = 512
	MaxValueBytes = 1 << 20
	// MaxPage is how many keys one listing answers at most.
	MaxPage = 1000
)

// The sentinels of the store.
var (
	ErrNotFound = errors.New("no such key")
	// ErrChanged says that the value is not the version the caller expected.
	ErrChanged = errors.New("value has changed")
)

// Entry is one key with its value.
type Entry struct {
	Key   string
	Value []byte
	// Version is positive, grows with each write of the store, and is never
	// used again, not even after a delete.
	Version   int64
	UpdatedAt time.Time
}

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "kv", Migrations: []store.Migration{store.Statements(`
	CREATE TABLE kv (
		key        TEXT PRIMARY KEY,
		value      BLOB NOT NULL,
		version    INTEGER NOT NULL,
		updated_at INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE versions (
		last INTEGER NOT NULL
	) STRICT;
	INSERT INTO versions VALUES (0)`)}}

// Store is the keys and values of one database.
type Store struct {
	db  *store.DB
	now func() time.Time
}

var _ mount.Reporter = (*Store)(nil)

// New uses a database with this package's Schema.
func New(db *store.DB, now func() time.Time) *Store { return &Store{db: db, now: now} }

// Get answers one entry. The error is ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, key string) (Entry, error) {
	e := Entry{Key: key}
	var at int64
	err := s.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT value, version, updated_at FROM kv WHERE key = ?", key).Scan(&e.Value, &e.Version, &at)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("getting a key: %w", err)
	}
	e.UpdatedAt = time.UnixMilli(at).UTC()
	return e, nil
}

// List answers, without their values, at most limit keys that begin with
// prefix and come after the given one, in the order of their bytes. More says
// whether others follow.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (entries []Entry, more bool, err error) {
	first := prefix
	if after >= prefix {
		// The least text that is greater.
		first = after + "\x00"
	}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var e Entry
			var at int64
			if err := rows.Scan(&e.Key, &e.Version, &at); err != nil {
				return err
			}
			e.UpdatedAt = time.UnixMilli(at).UTC()
			entries = append(entries, e)
			return nil
		}, "SELECT key, version, updated_at FROM kv WHERE key >= ? AND key < ? ORDER BY key LIMIT ?", first, prefixEnd(prefix), limit+1)
	})
	if err != nil {
		return nil, false, fmt.Errorf("listing keys: %w", err)
	}
	return entries[:min(limit, len(entries))], len(entries) > limit, nil
}

// Usage says what is kept.
func (s *Store) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "keys"}
	err := s.db.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM kv").Scan(&u.Count) })
	if err != nil {
		return u, fmt.Errorf("counting keys: %w", err)
	}
	u.Bytes, err = s.db.Bytes()
	return u, err
}

// prefixEnd is greater than every text that begins with the prefix, which is
// UTF-8 and so has no byte 255, and not greater than any other that follows.
func prefixEnd(prefix string) any {
	if prefix == "" {
		// To SQLite a blob is greater than every text.
		return []byte{}
	}
	end := []byte(prefix)
	end[len(end)-1]++
	return string(end)
}
