// Package data is the owner's own database: collections of JSON documents, and
// a way to databases of theirs elsewhere.
//
// Invariants: a transaction is written whole or not at all, and only where
// every condition of it holds; a version is greater than every one before it
// and names one state of one document for ever; each write is a line of the
// feed, in the order of versions; no text of a request becomes SQL of the
// toolshed's own database: paths are checked, values are bound; an external
// database is written only where the configuration allows it.
package data

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of what is kept and answered.
const (
	MaxDocumentBytes = 1 << 20
	MaxNesting       = 64
	MaxOperations    = 500
	MaxCollections   = 256
	MaxIndexes       = 16
	MaxPage          = 1000
	MaxSkip          = 100_000
	// KeptChanges is how many changes the feed goes back.
	KeptChanges = 100_000
	// maxAnswerBytes ends a page early.
	maxAnswerBytes = 8 << 20
	queryTime      = 5 * time.Second
)

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "data", Migrations: []store.Migration{store.Statements(`
	CREATE TABLE collections (
		name       TEXT PRIMARY KEY,
		schema     TEXT NOT NULL,
		created_at INTEGER NOT NULL
	) STRICT;
	CREATE TABLE indexes (
		collection TEXT NOT NULL REFERENCES collections (name) ON DELETE CASCADE,
		path       TEXT NOT NULL,
		uniq       INTEGER NOT NULL,
		PRIMARY KEY (collection, path)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE documents (
		collection TEXT NOT NULL REFERENCES collections (name) ON DELETE CASCADE,
		id         TEXT NOT NULL,
		version    INTEGER NOT NULL,
		updated_at INTEGER NOT NULL,
		body       TEXT NOT NULL,
		PRIMARY KEY (collection, id)
	) STRICT;
	CREATE TABLE changes (
		version    INTEGER PRIMARY KEY,
		collection TEXT NOT NULL,
		id         TEXT NOT NULL,
		op         TEXT NOT NULL,
		at         INTEGER NOT NULL
	) STRICT;
	CREATE TABLE versions (
		last INTEGER NOT NULL
	) STRICT;
	INSERT INTO versions VALUES (0)`)}}

// The sentinels of the store.
var (
	ErrNotFound     = errors.New("no such document")
	ErrNoCollection = errors.New("no such collection")
	// ErrChanged says that a document is not of the version that was expected.
	ErrChanged = errors.New("the document is of another version")
	// ErrTaken says that a unique index has the value already.
	ErrTaken = errors.New("a unique index has this value already")
	// ErrGone says that the feed no longer goes back so far.
	ErrGone = errors.New("the feed does not go back so far")
	// ErrSlow says that a query took longer than it may.
	ErrSlow = errors.New("the query takes too long")
)

// FieldError is a part of a request that is refused.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap is why.
func (e *FieldError) Unwrap() error { return e.Err }

func refused(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// The names that become part of SQL, and those of documents.
var (
	validName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)
	validID   = regexp.MustCompile(`^[A-Za-z0-9._~:@-]{1,128}$`)
)

// Store is the collections of one database.
type Store struct {
	db     *store.DB
	now    func() time.Time
	random io.Reader
	// Publish passes on a Written; nil for nobody. It is set before anything is
	// written.
	Publish func(any)

	// mu guards what follows.
	mu sync.Mutex
	// changed is closed at the next change.
	changed chan struct{}
	// schemas are compiled ones by their text.
	schemas map[string]*jsonschema.Schema
}

var _ mount.Reporter = (*Store)(nil)

// New uses a database with this package's Schema.
func New(db *store.DB, now func() time.Time, random io.Reader) *Store {
	return &Store{db: db, now: now, random: random, changed: make(chan struct{}), schemas: map[string]*jsonschema.Schema{}}
}

// Changed is closed at the next change. It is asked for before the feed is
// read.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) signal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// maxTold is how many changes of a transaction the feed of /api/live has.
const maxTold = 100

// Written is what is passed on of a transaction: its changes, without
// documents, or the first of many.
type Written struct {
	Changes []Change `json:"changes"`
	// More says that there were others, which Changes has.
	More bool `json:"more,omitempty"`
}

// tell passes on what was written.
func (s *Store) tell(changes ...Change) {
	s.signal()
	if s.Publish != nil && len(changes) > 0 {
		told := changes[:min(len(changes), maxTold)]
		s.Publish(Written{told, len(changes) > len(told)})
	}
}

// Usage says what is kept.
func (s *Store) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "documents"}
	err := s.db.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM documents").Scan(&u.Count) })
	if err != nil {
		return u, fmt.Errorf("counting documents: %w", err)
	}
	u.Quota = s.db.Quota()
	u.Bytes, err = s.db.Bytes()
	return u, err
}
