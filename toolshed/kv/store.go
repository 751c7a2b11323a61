// Package kv is a small key-value store on SQLite.
//
// Invariants: a write that was answered is on disk; keys and values are
// bounded; a reader sees whole values or none.
package kv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the driver
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
	// Version starts at 1 and grows with each write of the key.
	Version   int64
	UpdatedAt time.Time
}

// Store is an open database.
type Store struct {
	db  *sql.DB
	now func() time.Time
}

const schema = `
CREATE TABLE IF NOT EXISTS kv (
	key        TEXT PRIMARY KEY,
	value      BLOB NOT NULL,
	version    INTEGER NOT NULL,
	updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;`

// Open opens the database file, making it where it is missing.
func Open(ctx context.Context, path string, now func() time.Time) (*Store, error) {
	query := url.Values{"_pragma": {"journal_mode(wal)", "synchronous(full)", "busy_timeout(5000)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+path+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("opening key-value store: %w", err)
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("opening key-value store: %w", err), db.Close())
	}
	return &Store{db: db, now: now}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// Get answers one entry. The error is ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, key string) (Entry, error) {
	e := Entry{Key: key}
	var at int64
	err := s.db.QueryRowContext(ctx, `SELECT value, version, updated_at FROM kv WHERE key = ?`, key).
		Scan(&e.Value, &e.Version, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, ErrNotFound
	}
	if err != nil {
		return Entry{}, fmt.Errorf("getting a key: %w", err)
	}
	e.UpdatedAt = time.UnixMilli(at).UTC()
	return e, nil
}

// AnyVersion is an expectation that every state meets.
const AnyVersion = -1

// Put writes one value and answers its new version. With an expected version
// other than AnyVersion it writes only over that one (0: only where the key is
// missing); the error is then ErrChanged.
func (s *Store) Put(ctx context.Context, key string, value []byte, expected int64) (int64, error) {
	if value == nil {
		value = []byte{}
	}
	var version int64
	err := s.db.QueryRowContext(ctx, `
		INSERT INTO kv (key, value, version, updated_at)
		SELECT ?1, ?2, 1, ?3
		WHERE ?4 = -1 OR COALESCE((SELECT version FROM kv WHERE key = ?1), 0) = ?4
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = version + 1, updated_at = excluded.updated_at
		RETURNING version`, key, value, s.now().UnixMilli(), expected).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, ErrChanged
	}
	if err != nil {
		return 0, fmt.Errorf("putting a key: %w", err)
	}
	return version, nil
}

// Delete removes one key. The error is ErrNotFound where there is none.
func (s *Store) Delete(ctx context.Context, key string) error {
	result, err := s.db.ExecContext(ctx, `DELETE FROM kv WHERE key = ?`, key)
	if err != nil {
		return fmt.Errorf("deleting a key: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("deleting a key: %w", err)
	}
	if n == 0 {
		return ErrNotFound
	}
	return nil
}

// List answers at most limit keys in order that begin with prefix and come
// after the given one.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]Entry, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT key, version, updated_at FROM kv
		WHERE key > ? AND substr(key, 1, length(?2)) = ?2 ORDER BY key LIMIT ?`, after, prefix, limit)
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	defer rows.Close()
	entries := []Entry{}
	for rows.Next() {
		var e Entry
		var at int64
		if err := rows.Scan(&e.Key, &e.Version, &at); err != nil {
			return nil, fmt.Errorf("listing keys: %w", err)
		}
		e.UpdatedAt = time.UnixMilli(at).UTC()
		entries = append(entries, e)
	}
	return entries, rows.Err()
}
