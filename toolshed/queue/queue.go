// Package queue keeps tasks until they are done: with delays, retries, dead
// letters, schedules and idempotency keys.
//
// Invariants: a message that was taken in is delivered at least once, whatever
// ends in between, until it is acknowledged or has failed as often as its
// schedule allows; who has a receipt that is good is the only one to have the
// message, and acknowledges it once; what is dead stays until somebody deletes
// it; two messages with one idempotency key are one; on a full disk
// acknowledging works.
package queue

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of messages.
const (
	MaxBodyBytes   = 1 << 20
	MaxPriority    = 9
	MaxDelay       = 366 * 24 * time.Hour
	MaxBackoffs    = 100
	MaxKeyBytes    = 200
	MaxReceive     = 100
	MaxErrorBytes  = 500
	MaxCrons       = 1000
	maxUndelivered = 10
	// MinLease and MaxLease bound how long a receipt is good.
	MinLease = time.Second
	MaxLease = 12 * time.Hour
)

// DefaultBackoff is the delays before each retry where a message says nothing
// else: Deno's.
func DefaultBackoff() []time.Duration {
	return []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second, time.Minute}
}

// keyLife is how long an idempotency key is known.
const keyLife = 7 * 24 * time.Hour

// The sentinels of the queue.
var (
	ErrNotFound = errors.New("no such message")
	// ErrLost says that a receipt is not good, or no more.
	ErrLost = errors.New("the receipt is not good: the lease has ended or the message is gone")
	// ErrInvalid says that a request makes no sense.
	ErrInvalid = errors.New("invalid")
	// ErrKeyReused says that an idempotency key came with another message.
	ErrKeyReused = errors.New("the idempotency key was used for another message")
)

// Job is what is taken in.
type Job struct {
	Queue       string
	ContentType string
	Body        []byte
	// DueAt is when it is delivered; zero for at once.
	DueAt time.Time
	// Priority is 0 to MaxPriority, the highest first.
	Priority int
	// Backoff is the delays before each retry; nil for DefaultBackoff, empty
	// for no retry.
	Backoff []time.Duration
	// Key, where there is one, makes another Job with the same one this one.
	Key string
	// Undelivered is handed over with the message once it is dead.
	Undelivered [][]byte
}

// State is where a message stands.
type State int

// The states.
const (
	Waiting State = iota
	Leased
	Dead
)

func (s State) String() string {
	return map[State]string{Waiting: "waiting", Leased: "leased", Dead: "dead"}[s]
}

// Message is one that is kept.
type Message struct {
	ID int64
	Job
	State State
	// Attempt counts deliveries, the first being 1.
	Attempt    int
	EnqueuedAt time.Time
	// Receipt is good until LeaseEnds; both are of a delivery.
	Receipt   string
	LeaseEnds time.Time
	// Error is what the last consumer said that failed.
	Error string
}

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "queue", Migrations: []store.Migration{store.Statements(`
	CREATE TABLE messages (
		id           INTEGER PRIMARY KEY AUTOINCREMENT,
		queue        TEXT NOT NULL,
		state        INTEGER NOT NULL,
		priority     INTEGER NOT NULL,
		-- When it is delivered, its lease ends, or it died.
		due_at       INTEGER NOT NULL,
		attempt      INTEGER NOT NULL,
		receipt      TEXT NOT NULL,
		content_type TEXT NOT NULL,
		body         BLOB NOT NULL,
		-- JSON arrays, empty for none.
		backoff      TEXT NOT NULL,
		undelivered  TEXT NOT NULL,
		enqueued_at  INTEGER NOT NULL,
		error        TEXT NOT NULL
	) STRICT;
	CREATE INDEX next ON messages (queue, state, priority, due_at);
	CREATE INDEX leased ON messages (due_at) WHERE state = 1;
	CREATE TABLE seen (
		queue      TEXT NOT NULL,
		key        TEXT NOT NULL,
		digest     BLOB NOT NULL,
		message    INTEGER NOT NULL,
		expires_at INTEGER NOT NULL,
		PRIMARY KEY (queue, key)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX seen_expiring ON seen (expires_at);
	CREATE TABLE handovers (
		message INTEGER PRIMARY KEY
	) STRICT;
	CREATE TABLE crons (
		name         TEXT PRIMARY KEY,
		spec         TEXT NOT NULL,
		queue        TEXT NOT NULL,
		content_type TEXT NOT NULL,
		body         BLOB NOT NULL,
		backoff      TEXT NOT NULL,
		next_at      INTEGER NOT NULL,
		last_at      INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;`)}}

// Queue is the messages of one database.
type Queue struct {
	db       *store.DB
	now      func() time.Time
	random   io.Reader
	waiters  waiters
	schedule chan struct{}
}

var _ mount.Reporter = (*Queue)(nil)

// New uses a database with this package's Schema.
func New(db *store.DB, now func() time.Time, random io.Reader) *Queue {
	return &Queue{db: db, now: now, random: random, schedule: make(chan struct{}, 1)}
}

// Usage says what is kept.
func (q *Queue) Usage(ctx context.Context) (mount.Usage, error) {
	u := mount.Usage{Of: "messages"}
	err := q.db.View(ctx, func(tx *store.Tx) error { return tx.QueryRow("SELECT count(*) FROM messages").Scan(&u.Count) })
	if err != nil {
		return u, fmt.Errorf("counting messages: %w", err)
	}
	u.Quota = q.db.Quota()
	u.Bytes, err = q.db.Bytes()
	return u, err
}

// newReceipt is what nobody guesses.
func (q *Queue) newReceipt() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(q.random, b[:]); err != nil {
		return "", fmt.Errorf("drawing a receipt: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// signal tells who waits on c, or will.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
