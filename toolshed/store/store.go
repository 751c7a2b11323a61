// Package store opens the databases of the APIs: one SQLite file each, in one
// data directory.
//
// Invariants: one process has the directory; what Update reports as done is on
// the disk; transactions that come together share a commit, and each stands or
// falls by itself; a reader sees one state of its database; a database of a
// later form is refused; on a full disk nothing is written by halves, and what
// makes room still works; a quota bounds what grows, and nothing else.
package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/gofrs/flock"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The sentinels of the store.
var (
	// ErrNewer says that a later program made the database.
	ErrNewer = errors.New("the database has a newer format")
	// ErrFull says that nothing was written because the disk has no room.
	ErrFull = errors.New("the data disk is full")
	// ErrUnfit says that a file cannot take the place of a database.
	ErrUnfit = errors.New("this is no database that this program can open")
	// ErrBusy says that somebody reads what is in the way.
	ErrBusy = errors.New("somebody reads the database")
	// ErrInUse says that another process has the directory.
	ErrInUse = errors.New("another process uses the data directory")
)

// Names of files in the data directory that are no database's.
const (
	lockFile = "lock"
	roomFile = "room"
)

// Directory is a data directory that this process has.
type Directory struct {
	path string
	lock *flock.Flock
	room *room
}

// OpenDirectory takes the data directory, making it where it is missing. The
// error is ErrInUse while another process has it.
func OpenDirectory(path string) (_ *Directory, err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	d := &Directory{path: path, lock: flock.New(filepath.Join(path, lockFile), flock.SetPermissions(0o600))}
	if locked, err := d.lock.TryLock(); err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	} else if !locked {
		return nil, fmt.Errorf("%w: %s", ErrInUse, path)
	}
	if d.room, err = openRoom(filepath.Join(path, roomFile)); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// Path is a name in the directory, for what an API keeps beside its database.
func (d *Directory) Path(name string) string { return filepath.Join(d.path, name) }

// Close gives the directory back. Its databases must be closed.
func (d *Directory) Close() error {
	return errors.Join(d.room.close(), d.lock.Close())
}

// Migration brings a database from one form to the next.
type Migration func(*Tx) error

// Statements is a migration that runs SQL.
func Statements(text string) Migration {
	return func(t *Tx) error { return t.script(text) }
}

// Schema is what a database holds.
type Schema struct {
	// Name is the file's, without its .db.
	Name string
	// Migrations lead from nothing to the present form. The form's number is
	// how many were applied, so none is ever changed or removed.
	Migrations []Migration
	// SecureDelete overwrites what is deleted, for a price in writes.
	SecureDelete bool
	// Quota bounds what Grow makes of the database, in bytes; 0 is no bound.
	Quota int64
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Open opens a database, making it where it is missing, and applies what is
// missing of its migrations. The error is ErrNewer where a later program made
// it.
func (d *Directory) Open(ctx context.Context, s Schema) (*DB, error) {
	if !validName.MatchString(s.Name) {
		return nil, fmt.Errorf("opening a database: name %q: want lower case letters, digits and hyphens", s.Name)
	}
	db := &DB{path: filepath.Join(d.path, s.Name+".db"), schema: s, readers: make(chan struct{}, maxReaders), idle: make(chan *conn, idleReaders)}
	// SQLite needs room for its log and the log's index, on a full disk too.
	err := d.room.spare(db.log(), func() error { return db.open(ctx, s, d.room) })
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", s.Name, err), db.Close())
	}
	return db, nil
}

// isFull reports whether there was no room on the disk.
func isFull(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE
	}
	return errors.Is(err, ErrFull)
}
