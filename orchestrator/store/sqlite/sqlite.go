// Package sqlite keeps the control plane's state in one SQLite file and its
// jobs in River beside it.
//
// Invariants: one process has the state directory, and one connection in it
// writes; a transaction that Update reports as done is on the disk; River and
// its types are not seen outside of this package.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/riverqueue/river"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

const (
	databaseFile = "control.db"
	readers      = 4
	// saltKey is the meta key of what tombstones are hashed with.
	saltKey = "tombstone_salt"
)

// Store is a store.Store on a directory of its own.
type Store struct {
	lock   *lock
	writer *sql.DB
	reader *sql.DB
	// inserter leaves hints; workers are clients of their own.
	inserter *river.Client[*sql.Tx]
	logger   *slog.Logger
	salt     []byte

	mu      sync.Mutex
	changed chan struct{} // guarded by mu
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Queue   = (*Store)(nil)
	_ store.Watcher = (*Store)(nil)
	_ io.Closer     = (*Store)(nil)
)

// Open takes the directory, making it where it is missing, and brings its
// schema up to date. It fails with a *LockedError while another process has it.
func Open(ctx context.Context, dir string, logger *slog.Logger) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	s := &Store{logger: logger, changed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(translate(err), s.Close())
		}
	}()
	if s.lock, err = acquire(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, databaseFile)
	if s.writer, err = open(path, 1, "_txlock=immediate"); err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, err
	}
	if s.reader, err = open(path, readers, "_pragma=query_only(1)"); err != nil {
		return nil, err
	}
	if s.inserter, err = newInserter(s.writer, logger); err != nil {
		return nil, err
	}
	if s.salt, err = s.loadSalt(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func open(path string, connections int, option string) (*sql.DB, error) {
	const pragmas = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(1)&_pragma=secure_delete(1)&"
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+pragmas+option)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	return db, nil
}

// Close gives the directory back. It is harmless twice.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	sqlTx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("beginning a transaction: %w", translate(err))
	}
	if err := f(&tx{reader: reader{ctx: ctx, q: sqlTx, salt: s.salt}, tx: sqlTx, inserter: s.inserter}); err != nil {
		return errors.Join(translate(err), rollback(sqlTx))
	}
	if err := sqlTx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", translate(err))
	}
	s.announce()
	return nil
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, f func(store.Reader) error) error {
	sqlTx, err := s.reader.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return fmt.Errorf("beginning to read: %w", err)
	}
	return errors.Join(f(&reader{ctx: ctx, q: sqlTx, salt: s.salt}), rollback(sqlTx))
}

// rollback ends a transaction that shall leave nothing. One that a cancelled
// context ended already is as good.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("rolling back: %w", err)
	}
	return nil
}

// Changed implements store.Watcher.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// loadSalt reads what user ids are hashed with in tombstones, drawing it once.
func (s *Store) loadSalt(ctx context.Context) (salt []byte, err error) {
	err = s.Update(ctx, func(t store.Tx) error {
		text, err := t.Meta(saltKey)
		if errors.Is(err, orchestrator.ErrNotFound) {
			text = hex.EncodeToString(generate())
			err = t.PutMeta(saltKey, text)
		}
		if err != nil {
			return err
		}
		salt, err = hex.DecodeString(text)
		return err
	})
	return salt, err
}

// generate takes 32 bytes from the operating system, which does not fail.
func generate() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}

// translate names the conditions that callers treat differently, once.
func translate(err error) error {
	var e *sqlite.Error
	known := errors.Is(err, orchestrator.ErrFull) || errors.Is(err, orchestrator.ErrConflict)
	if known || !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", orchestrator.ErrFull, err)
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", orchestrator.ErrConflict, err)
	default:
		return err
	}
}
