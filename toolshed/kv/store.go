// Package kv is a small key-value store on SQLite.
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
	"net/url"
	"strconv"
	"time"
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
	// ErrFull says that nothing was written because the disk has no room.
	ErrFull = errors.New("the data disk is full")
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

// Store is an open database.
type Store struct {
	// writer has one connection: SQLite has one writer at a time.
	writer, readers *sql.DB
	room            *room
	now             func() time.Time
}

// readerCount is how many reads run at once: they wait for no writer, and more
// would only hold more memory.
const readerCount = 8

// Open opens the database file, making it where it is missing. The error is
// ErrNewer where a later toolshed made it.
func Open(ctx context.Context, path string, now func() time.Time) (*Store, error) {
	room, err := openRoom(path)
	if err != nil {
		return nil, fmt.Errorf("opening key-value store: %w", err)
	}
	s := &Store{room: room, now: now}
	// On a full disk SQLite needs the room for its log and its index of the log.
	if err = room.release(); err == nil {
		err = errors.Join(s.open(ctx, path), room.take())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening key-value store: %w", err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) (err error) {
	checkpointAt := "wal_autocheckpoint(" + strconv.Itoa(checkpointPages) + ")"
	if s.writer, err = openPool(path, 1, "journal_mode(wal)", "synchronous(full)", checkpointAt); err != nil {
		return err
	}
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // gives it back to the pool
	if err := commit(ctx, conn, migrate); err != nil {
		return err
	}
	checkpoint(ctx, conn)
	s.readers, err = openPool(path, readerCount, "query_only(1)")
	return err
}

// openPool opens connections that wait for one another's locks.
func openPool(path string, connections int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"_pragma": append([]string{"busy_timeout(5000)"}, pragmas...), "_txlock": {"immediate"}}
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: url.PathEscape(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	return pool, nil
}

// Close closes the database.
func (s *Store) Close() error {
	var errs []error
	if s.readers != nil {
		errs = append(errs, s.readers.Close())
	}
	if s.writer != nil {
		// The last connection empties the log; on a full disk into this room.
		errs = append(errs, s.room.release(), s.writer.Close(), s.room.take())
	}
	return errors.Join(append(errs, s.room.close())...)
}

// Get answers one entry. The error is ErrNotFound where there is none.
func (s *Store) Get(ctx context.Context, key string) (Entry, error) {
	e := Entry{Key: key}
	var at int64
	err := s.readers.QueryRowContext(ctx, `SELECT value, version, updated_at FROM kv WHERE key = ?`, key).
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

// List answers, without their values, at most limit keys that begin with
// prefix and come after the given one, in the order of their bytes. More says
// whether others follow.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) (entries []Entry, more bool, err error) {
	first := prefix
	if after >= prefix {
		// The least text that is greater.
		first = after + "\x00"
	}
	rows, err := s.readers.QueryContext(ctx, `
		SELECT key, version, updated_at FROM kv WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
		first, prefixEnd(prefix), limit+1)
	if err != nil {
		return nil, false, fmt.Errorf("listing keys: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e Entry
		var at int64
		if err := rows.Scan(&e.Key, &e.Version, &at); err != nil {
			return nil, false, fmt.Errorf("listing keys: %w", err)
		}
		e.UpdatedAt = time.UnixMilli(at).UTC()
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		return nil, false, fmt.Errorf("listing keys: %w", err)
	}
	return entries[:min(limit, len(entries))], len(entries) > limit, nil
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
