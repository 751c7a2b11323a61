package kv

import (
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of a message's schedule.
const (
	maxBackoffs    = 10
	maxBackoff     = time.Hour
	maxUndelivered = 10
	maxDelay       = 30 * 24 * time.Hour
)

// Message is what an atomic write gives to the queue.
type Message struct {
	// ID is given to it here, and is its own for ever.
	ID string
	// Payload is in V8's form.
	Payload []byte
	DueAt   time.Time
	// Backoff is the delays before each retry; nil for the queue's own.
	Backoff []time.Duration
	// Undelivered are the keys, encoded, that get the payload once all retries
	// have failed.
	Undelivered [][]byte
}

// scopeEnqueue is the queue's own scope for who takes messages in.
const scopeEnqueue auth.Scope = "queue:write"

// mayEnqueue refuses messages of who may write keys alone.
func mayEnqueue(ctx context.Context, w Write) error {
	if len(w.Enqueues) == 0 {
		return nil
	}
	if refused := auth.Check(ctx, scopeEnqueue); refused != nil {
		return refused
	}
	return nil
}

// check answers its size too.
func (m Message) check(now time.Time) (size int, err error) {
	size = len(m.Payload)
	if m.DueAt.Sub(now) > maxDelay {
		return 0, fmt.Errorf("%w: a message that is due in more than %s", ErrInvalid, maxDelay)
	}
	if len(m.Backoff) > maxBackoffs || len(m.Undelivered) > maxUndelivered {
		return 0, fmt.Errorf("%w: %d delays and %d keys, at most %d and %d", ErrInvalid, len(m.Backoff), len(m.Undelivered), maxBackoffs, maxUndelivered)
	}
	for _, d := range m.Backoff {
		if d < 0 || d > maxBackoff {
			return 0, fmt.Errorf("%w: a delay of %s, at most %s", ErrInvalid, d, maxBackoff)
		}
	}
	for _, k := range m.Undelivered {
		if err := checkKey(k); err != nil {
			return 0, err
		}
		size += len(k)
	}
	return size, Value{Encoding: V8, Data: m.Payload}.check()
}

// post puts a message into the outbox, from which the queue gets it: the queue
// is a database of its own, and no transaction covers both.
func (t *writing) post(m Message) error {
	backoff, err := json.Marshal(m.Backoff)
	if err != nil {
		return err
	}
	undelivered, err := json.Marshal(m.Undelivered)
	if err != nil {
		return err
	}
	_, err = t.Exec(`INSERT INTO outbox (payload, due_at, backoff, undelivered) VALUES (?, ?, ?, ?)`,
		notNil(m.Payload), m.DueAt.UnixMilli(), string(backoff), string(undelivered))
	return err
}

// Queue takes messages. One whose ID it has had it does not take twice.
type Queue interface {
	Post(ctx context.Context, m Message) error
}

// deliver gives the outbox to a queue, and answers what failed.
func (s *Store) deliver(ctx context.Context, q Queue) error {
	for {
		m, row, err := s.nextPosted(ctx)
		if err != nil || row == 0 {
			return err
		}
		if err := q.Post(ctx, m); err != nil {
			return fmt.Errorf("giving a message to the queue: %w", err)
		}
		err = s.db.Free(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM outbox WHERE id = ?`, row)
			return err
		})
		if err != nil {
			return fmt.Errorf("emptying the outbox: %w", err)
		}
	}
}

// nextPosted is the first message of the outbox; row is 0 where it is empty.
func (s *Store) nextPosted(ctx context.Context) (m Message, row int64, err error) {
	var due int64
	var owner, backoff, undelivered []byte
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT outbox.id, identity.id, payload, due_at, backoff, undelivered FROM outbox, identity ORDER BY outbox.id LIMIT 1`).
			Scan(&row, &owner, &m.Payload, &due, &backoff, &undelivered)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Message{}, 0, nil
	}
	if err == nil {
		err = errors.Join(json.Unmarshal(backoff, &m.Backoff), json.Unmarshal(undelivered, &m.Undelivered))
	}
	if err != nil {
		return Message{}, 0, fmt.Errorf("reading the outbox: %w", err)
	}
	m.ID, m.DueAt = fmt.Sprintf("kv-%s-%d", hex.EncodeToString(owner), row), time.UnixMilli(due)
	return m, row, nil
}

// ID is the database's own.
func (s *Store) ID(ctx context.Context) (id [16]byte, err error) {
	var b []byte
	err = s.db.View(ctx, func(tx *store.Tx) error { return tx.QueryRow(`SELECT id FROM identity`).Scan(&b) })
	if err != nil {
		return id, fmt.Errorf("reading the store's id: %w", err)
	}
	copy(id[:], b)
	return id, nil
}
