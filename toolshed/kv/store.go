// Package kv is a key-value store as Deno has it: ordered keys of typed parts,
// values with versionstamps, atomic writes, watching, expiry, and Deno's own
// protocol beside an HTTP API.
//
// Invariants: a write that was answered is on disk, all of it or nothing; keys
// and values are bounded; a reader sees one state; a version names one write
// for ever; what has expired is never read; a message that a write enqueued
// reaches the queue once; on a full disk deleting works, and makes room for
// writing.
package kv

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/kv/key"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of what is stored, and of one request.
const (
	MaxKeyBytes   = key.MaxBytes
	MaxValueBytes = 1 << 20
	// MaxWriteBytes bounds the keys and values of one atomic write together.
	MaxWriteBytes = MaxValueBytes + 64<<10
	MaxChecks     = 100
	MaxMutations  = 1000
	// MaxPage is how many entries one reading answers at most, and
	// MaxReadBytes their size.
	MaxPage      = 1000
	MaxReadBytes = 16 << 20
	MaxRanges    = 10
	MaxWatched   = 10
)

// The sentinels of the store.
var (
	ErrNotFound = errors.New("no such key")
	// ErrChanged says that the value is not the version the caller expected.
	ErrChanged = errors.New("value has changed")
	// ErrInvalid says that a request makes no sense.
	ErrInvalid = errors.New("invalid")
	// ErrTooLarge says that a request or its answer is larger than it may be.
	ErrTooLarge = errors.New("too large")
)

// Store is the keys and values of one database.
type Store struct {
	db       *store.DB
	now      func() time.Time
	watchers watchers
	versions versions
	// sooner is told of an expiry that may come before those known, posted of
	// a message in the outbox.
	sooner, posted chan struct{}
}

var _ mount.Reporter = (*Store)(nil)

// New uses a database with this package's Schema.
func New(db *store.DB, now func() time.Time) *Store {
	return &Store{db: db, now: now, sooner: make(chan struct{}, 1), posted: make(chan struct{}, 1)}
}

// Usage says what is kept.
func (s *Store) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "keys"}
	err := s.db.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM entries").Scan(&u.Count) })
	if err != nil {
		return u, fmt.Errorf("counting keys: %w", err)
	}
	u.Quota = s.db.Quota()
	u.Bytes, err = s.db.Bytes()
	return u, err
}

// signal tells who waits on c, or will.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
