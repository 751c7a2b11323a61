// Package profile is what the owner knows about themselves and their world: a
// graph of facts, each of a source, that can be asked as it is and as it was.
//
// Invariants: a fact is kept once for each source that says it; what is
// retracted is no longer so and stays in the history; what is deleted is in no
// file of the database, nor in a backup made later, once the deletion is
// reported as done; a batch is written whole or not at all, under a time
// greater than every one before; nothing that is refused is kept; no text of a
// request becomes SQL.
package profile

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of what is kept and answered.
const (
	MaxFacts       = 10_000
	MaxSourceBytes = 256
	MaxPage        = 1000
	MaxHints       = 1000
	// MaxTogether is how many facts are answered as one document.
	MaxTogether = 50_000
	// maxQueries run at once; another waits, as long as its own time.
	maxQueries = 4
	queryTime  = 5 * time.Second
	queryRows  = 10_000
	queryBytes = 16 << 20
)

// Schema is what the database of this API holds. Terms are kept once, and found
// by their sums, so that no text stands in an index; times are in microseconds.
var Schema = store.Schema{Name: "profile", SecureDelete: true, Migrations: []store.Migration{store.Statements(`
	CREATE TABLE terms (
		id       INTEGER PRIMARY KEY,
		sum      BLOB NOT NULL UNIQUE,
		kind     INTEGER NOT NULL,
		value    TEXT NOT NULL,
		datatype TEXT NOT NULL,
		language TEXT NOT NULL
	) STRICT;
	CREATE TABLE triples (
		id        INTEGER PRIMARY KEY,
		subject   INTEGER NOT NULL REFERENCES terms (id),
		predicate INTEGER NOT NULL REFERENCES terms (id),
		object    INTEGER NOT NULL REFERENCES terms (id),
		UNIQUE (subject, predicate, object)
	) STRICT;
	CREATE INDEX triples_pos ON triples (predicate, object, subject);
	CREATE INDEX triples_osp ON triples (object, subject, predicate);
	CREATE TABLE sources (
		id   INTEGER PRIMARY KEY,
		name TEXT NOT NULL UNIQUE
	) STRICT;
	CREATE TABLE facts (
		id           INTEGER PRIMARY KEY AUTOINCREMENT,
		triple       INTEGER NOT NULL REFERENCES triples (id),
		source       INTEGER NOT NULL REFERENCES sources (id),
		asserted_at  INTEGER NOT NULL,
		retracted_at INTEGER
	) STRICT;
	CREATE INDEX facts_triple ON facts (triple, asserted_at, retracted_at);
	CREATE INDEX facts_source ON facts (source);
	CREATE UNIQUE INDEX facts_present ON facts (triple, source) WHERE retracted_at IS NULL;
	CREATE TABLE hints (
		predicate     TEXT PRIMARY KEY,
		label         TEXT NOT NULL,
		comment       TEXT NOT NULL,
		range         TEXT NOT NULL,
		single_valued INTEGER NOT NULL,
		enforce       TEXT NOT NULL
	) STRICT;
	CREATE TABLE times (
		last    INTEGER NOT NULL,
		-- whether something was deleted that is not erased yet
		erasing INTEGER NOT NULL
	) STRICT;
	INSERT INTO times VALUES (0, 0)`)}}

// The sentinels of the store.
var (
	ErrNotFound = errors.New("nothing such is known")
	// ErrQuota says that no more is kept.
	ErrQuota = errors.New("the profile has as many bytes as it may")
	// ErrSlow says that a query took longer than it may.
	ErrSlow = errors.New("the query takes too long")
	// ErrLarge says that there is more than is answered at once.
	ErrLarge = errors.New("there is more than is answered as one document")
	// ErrNotErased says that what was deleted is gone from every answer, and not
	// yet from the disk. The next deletion or start erases it.
	ErrNotErased = errors.New("what was deleted is in no answer any more, and not erased from the disk yet; delete it once more")
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

// Fact is a triple that a source says.
type Fact struct {
	ID int64
	rdf.Triple
	Source     string
	AssertedAt time.Time
	// RetractedAt is zero while it holds.
	RetractedAt time.Time
}

// Event is what the feed tells of a change.
type Event struct {
	Op     string    `json:"op"`
	At     time.Time `json:"at"`
	Count  int64     `json:"count"`
	Source string    `json:"source,omitempty"`
	// Entities are some of those it is about; a deletion names none.
	Entities []string `json:"entities,omitempty"`
}

// The kinds of events.
const (
	OpAdded     = "added"
	OpRetracted = "retracted"
	OpDeleted   = "deleted"
)

// maxTold is how many entities an event names.
const maxTold = 20

// Options is what a store works with.
type Options struct {
	DB  *store.DB
	Now func() time.Time
	// Quota bounds the bytes of the database.
	Quota int64
	// Publish passes on an Event; nil for nobody.
	Publish func(any)
	// Forget has what was passed on before forgotten; nil where nobody keeps it.
	Forget func()
}

// Store keeps facts.
type Store struct {
	Options
	// asking has a place for each query under way.
	asking chan struct{}
}

var _ mount.Reporter = (*Store)(nil)

// New uses a database with this package's Schema, and erases what an earlier
// process deleted and could not.
func New(ctx context.Context, o Options) (*Store, error) {
	s := &Store{Options: o, asking: make(chan struct{}, maxQueries)}
	var erasing bool
	err := o.DB.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT erasing FROM times").Scan(&erasing) })
	if err != nil {
		return nil, fmt.Errorf("opening the profile: %w", err)
	}
	if erasing {
		// A full disk keeps nobody from what is there.
		if err := s.finishErasing(ctx); err != nil && !errors.Is(err, ErrNotErased) {
			return nil, err
		}
	}
	return s, nil
}

func (s *Store) publish(e Event) {
	if e.Count == 0 {
		return
	}
	if e.Op == OpDeleted && s.Forget != nil {
		s.Forget()
	}
	if s.Publish != nil {
		s.Publish(e)
	}
}

// Usage says what is kept.
func (s *Store) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "facts and hints"}
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT (SELECT count(*) FROM facts) + (SELECT count(*) FROM hints)").Scan(&u.Count)
	})
	if err != nil {
		return u, fmt.Errorf("counting facts: %w", err)
	}
	u.Bytes, err = s.DB.Bytes()
	return u, err
}

// present is a time after all others.
const present = int64(1<<63 - 1)

// moment is a time as the database has it; the zero time is the present.
func moment(t time.Time) int64 {
	if t.IsZero() {
		return present
	}
	return t.UnixMicro()
}

func timeOf(micro int64) time.Time { return time.UnixMicro(micro).UTC() }

// tick is the time of a change: the clock's, and greater than that of every
// change before.
func (s *Store) tick(tx *store.Tx) (at int64, err error) {
	err = tx.QueryRow("UPDATE times SET last = max(last + 1, ?) RETURNING last", s.Now().UnixMicro()).Scan(&at)
	return at, err
}
