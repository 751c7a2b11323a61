// Package sqlite keeps the control plane's state in one SQLite file.
//
// Invariants: one process has the state directory, and one connection in it
// writes; a transaction that Update reports as done is on the disk; a hint is
// handed out only once its transaction is; rows have a format with a number,
// and one that is not known is refused rather than read by halves.
package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/workqueue"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// DatabaseFile is the database's name in the state directory, and CommitsFile
// that of the count of what was committed to it.
const (
	DatabaseFile = "control.db"
	CommitsFile  = "control.commits"
)

const (
	// readers is how many states can be read side by side.
	readers = 4
	// workers is how many instances are looked at side by side. They wait for
	// the provider far more than they compute.
	workers = 16
	// softStop is how long a stop waits for the looks under way.
	softStop = 3 * time.Second
	// saltKey is the meta key of what tombstones are hashed with.
	saltKey = "tombstone_salt"
)

// Store is a store.Store on a directory of its own.
type Store struct {
	// unlock gives the directory back; nil once it has.
	unlock func() error
	writer *writer
	// idle holds the reading connections that nobody uses.
	idle  chan *conn
	queue *workqueue.Queue[orchestrator.InstanceID]

	mu      sync.Mutex
	changed chan struct{} // guarded by mu
}

var (
	_ store.Store   = (*Store)(nil)
	_ store.Queue   = (*Store)(nil)
	_ store.Watcher = (*Store)(nil)
	_ io.Closer     = (*Store)(nil)
)

// ErrDamaged says that a file is there and holds no whole database.
var ErrDamaged = errors.New("the database is damaged")

// Open takes the directory, making it where it is missing, and brings its
// schema up to date. It fails with a *LockedError while another process has it,
// and with ErrDamaged.
func Open(ctx context.Context, dir string) (_ *Store, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	s := &Store{
		idle: make(chan *conn, readers), queue: workqueue.New[orchestrator.InstanceID](), changed: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(translate(err), s.Close())
		}
	}()
	if s.unlock, err = acquire(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, DatabaseFile)
	if err := forOwnerAlone(path); err != nil {
		return nil, err
	}
	// A checkpoint is a pause for all: four times as seldom as by default, it
	// writes the pages that many transactions share once instead of four times.
	writing, err := connect(ctx, path, "_pragma=wal_autocheckpoint(4000)")
	if err != nil {
		return nil, err
	}
	s.writer = newWriter(writing, s.committed)
	if err := migrate(ctx, writing); err != nil {
		return nil, err
	}
	if s.writer.count, err = openCommits(ctx, dir, writing); err != nil {
		return nil, err
	}
	for range readers {
		reading, err := connect(ctx, path, "_pragma=query_only(1)")
		if err != nil {
			return nil, err
		}
		s.idle <- reading
	}
	s.writer.salt, err = s.loadSalt(ctx)
	return s, err
}

// forOwnerAlone makes the database before SQLite does, whose other files then
// have its mode, and corrects one that was made otherwise.
func forOwnerAlone(path string) error {
	const mode = 0o600
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, mode)
	if err != nil {
		return fmt.Errorf("making the database: %w", err)
	}
	if err := errors.Join(f.Chmod(mode), f.Close()); err != nil {
		return fmt.Errorf("keeping the database from others: %w", err)
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Chmod(path+suffix, mode); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("keeping the database from others: %w", err)
		}
	}
	return nil
}

// Close gives the directory back. Nothing may be under way. It is harmless
// twice.
func (s *Store) Close() error {
	var errs []error
	for range len(s.idle) {
		errs = append(errs, (<-s.idle).close())
	}
	if s.writer != nil {
		if s.writer.count != nil {
			errs = append(errs, s.writer.count.close())
		}
		errs = append(errs, s.writer.conn.close())
		s.writer = nil
	}
	if s.unlock != nil {
		errs = append(errs, s.unlock())
		s.unlock = nil
	}
	return errors.Join(errs...)
}

// errClosed answers whoever comes after Close.
var errClosed = errors.New("the store is closed")

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, f func(store.Tx) error) error {
	if s.writer == nil {
		return errClosed
	}
	return s.writer.update(ctx, func(t *tx) error { return f(t) })
}

// committed tells of a commit whoever waits for one.
func (s *Store) committed(hints []orchestrator.InstanceID) {
	s.queue.Urge(hints...)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, f func(store.Reader) error) (err error) {
	if s.writer == nil {
		return errClosed
	}
	var c *conn
	select {
	case c = <-s.idle:
	case <-ctx.Done():
		return fmt.Errorf("beginning to read: %w", ctx.Err())
	}
	defer func() { s.idle <- c }()
	if err := c.exec("BEGIN"); err != nil {
		return fmt.Errorf("beginning to read: %w", err)
	}
	defer func() {
		if end := c.exec("ROLLBACK"); end != nil {
			err = errors.Join(err, fmt.Errorf("ending a read: %w", end))
		}
	}()
	return f(&reader{conn: c, salt: s.writer.salt})
}

// Work implements store.Queue.
func (s *Store) Work(ctx context.Context, look store.Look) error {
	s.queue.Work(ctx, workers, softStop, look)
	return nil
}

// Add implements store.Queue.
func (s *Store) Add(ids ...orchestrator.InstanceID) { s.queue.Add(ids...) }

// Changed implements store.Watcher.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// loadSalt reads what user ids are hashed with in tombstones, generating it
// once.
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
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", orchestrator.ErrFull, err)
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("%w: %w", orchestrator.ErrConflict, err)
	default:
		return err
	}
}
