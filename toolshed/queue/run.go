package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// batch bounds what one transaction of the upkeep changes, and retryAfter is
// when what failed is tried again.
const (
	batch      = 200
	retryAfter = time.Second
	// longest is how long anybody waits for a time at most: the clock may be set
	// meanwhile, or the machine sleep, and timers know nothing of either.
	longest = time.Minute
)

// errExpired is what a message says whose consumer said nothing.
var errExpired = errors.New("the lease ended without an answer")

// Undelivered takes messages that are dead, for those who asked for it. It may
// be given one twice.
type Undelivered interface {
	Undelivered(ctx context.Context, m Message) error
}

// Run ends leases, starts what is scheduled, hands over what is dead and forgets
// old keys, until ctx ends. What fails it tells, and tries again.
func (q *Queue) Run(ctx context.Context, to Undelivered, failed func(error)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.schedule:
		}
		next, err := q.upkeep(ctx, to)
		if ctx.Err() != nil {
			return
		}
		wait := longest
		if !next.IsZero() {
			wait = q.until(next)
		}
		if err != nil {
			failed(err)
			wait = retryAfter
		}
		timer.Reset(wait)
	}
}

// until is how long to wait for a time before looking again.
func (q *Queue) until(next time.Time) time.Duration {
	return min(max(next.Sub(q.now()), time.Millisecond), longest)
}

// upkeep does what is due, and says when the next is; zero for not known.
func (q *Queue) upkeep(ctx context.Context, to Undelivered) (next time.Time, err error) {
	err = errors.Join(q.expireLeases(ctx), q.startCrons(ctx), q.handOver(ctx, to), q.forget(ctx))
	if err != nil {
		return next, err
	}
	var lease, cron sql.NullInt64
	err = q.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT (SELECT min(due_at) FROM messages WHERE state = 1), (SELECT min(next_at) FROM crons)`).Scan(&lease, &cron)
	})
	if err != nil {
		return next, fmt.Errorf("looking for what is next: %w", err)
	}
	for _, at := range []sql.NullInt64{lease, cron} {
		if t := time.UnixMilli(at.Int64); at.Valid && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next, nil
}

// expireLeases takes messages back whose consumers said nothing.
func (q *Queue) expireLeases(ctx context.Context) error {
	for {
		now := q.now()
		var ended []Message
		err := q.collect(ctx, &ended, `WHERE state = 1 AND due_at <= ? ORDER BY due_at LIMIT ?`, now.UnixMilli(), batch)
		if err != nil || len(ended) == 0 {
			return err
		}
		err = q.db.Free(ctx, func(tx *store.Tx) error {
			for _, m := range ended {
				// It may have been ended or extended meanwhile.
				current, err := scan(tx.QueryRow(`SELECT `+columns+` FROM messages WHERE id = ?`, m.ID))
				if errors.Is(err, sql.ErrNoRows) || err == nil && (current.Receipt != m.Receipt || current.DueAt.After(now)) {
					continue
				}
				if err == nil {
					err = q.failed(tx, current, outcome{err: errExpired, delay: -1}, now)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("ending leases: %w", err)
		}
		for _, m := range ended {
			q.waiters.wake(m.Queue)
		}
	}
}

// collect reads the messages that the clause names.
func (q *Queue) collect(ctx context.Context, into *[]Message, clause string, args ...any) error {
	err := q.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			m, err := scan(rows)
			*into = append(*into, m)
			return err
		}, `SELECT `+columns+` FROM messages `+clause, args...)
	})
	if err != nil {
		return fmt.Errorf("reading messages: %w", err)
	}
	return nil
}

// handOver gives what is dead to whoever asked for it.
func (q *Queue) handOver(ctx context.Context, to Undelivered) error {
	for {
		var dead []Message
		if err := q.collect(ctx, &dead, `WHERE id = (SELECT min(message) FROM handovers)`); err != nil {
			return err
		}
		for _, m := range dead {
			if err := to.Undelivered(ctx, m); err != nil {
				return fmt.Errorf("handing a dead message over: %w", err)
			}
		}
		var left int64
		err := q.db.Free(ctx, func(tx *store.Tx) error {
			for _, m := range dead {
				if _, err := tx.Exec(`DELETE FROM handovers WHERE message = ?`, m.ID); err != nil {
					return err
				}
			}
			// One that was deleted meanwhile has nobody to go to.
			if _, err := tx.Exec(`DELETE FROM handovers WHERE message NOT IN (SELECT id FROM messages)`); err != nil {
				return err
			}
			return tx.QueryRow(`SELECT count(*) FROM handovers`).Scan(&left)
		})
		if err != nil {
			return fmt.Errorf("handing dead messages over: %w", err)
		}
		if left == 0 {
			return nil
		}
	}
}

// forget drops idempotency keys that are old.
func (q *Queue) forget(ctx context.Context) error {
	now := q.now().UnixMilli()
	var old int64
	err := q.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT count(*) FROM (SELECT 1 FROM seen WHERE expires_at <= ? LIMIT 1)`, now).Scan(&old)
	})
	if err == nil && old > 0 {
		err = q.db.Free(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`DELETE FROM seen WHERE (queue, key) IN (SELECT queue, key FROM seen WHERE expires_at <= ? LIMIT ?)`, now, batch)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("forgetting keys: %w", err)
	}
	return nil
}
