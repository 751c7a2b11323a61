package kv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

var errEnough = errors.New("enough was read")

func isEnough(err error) bool { return errors.Is(err, errEnough) }

// sweepBatch bounds the keys that one sweep deletes in a transaction, and
// retryAfter is when what failed is tried again.
const (
	sweepBatch = 200
	retryAfter = time.Second
	// longest is how long it waits for an expiry at most: the clock may be set
	// meanwhile, or the machine sleep, and timers know nothing of either.
	longest = time.Minute
)

// Run deletes what expires and gives messages to the queue, until ctx ends.
// What fails it tells, and tries again.
func (s *Store) Run(ctx context.Context, q Queue, failed func(error)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.sooner:
		case <-s.posted:
		}
		next, err := s.sweep(ctx)
		err = errors.Join(err, s.deliver(ctx, q))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			failed(err)
			next = s.now().Add(retryAfter)
		}
		timer.Stop()
		if !next.IsZero() {
			timer.Reset(min(max(next.Sub(s.now()), time.Millisecond), longest))
		}
	}
}

// sweep deletes what has expired, and says when the next does; zero for never.
func (s *Store) sweep(ctx context.Context) (next time.Time, err error) {
	for {
		var due int64
		now := s.now().UnixMilli()
		err := s.db.View(ctx, func(tx *store.Tx) error {
			return tx.QueryRow(`SELECT expires_at FROM entries WHERE expires_at < 9223372036854775807 ORDER BY expires_at LIMIT 1`).Scan(&due)
		})
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return time.Time{}, nil
		case err != nil:
			return time.Time{}, fmt.Errorf("looking for what expires: %w", err)
		case due > now:
			return time.UnixMilli(due), nil
		}
		if err := s.expire(ctx, now); err != nil {
			return time.Time{}, fmt.Errorf("deleting what has expired: %w", err)
		}
	}
}

func (s *Store) expire(ctx context.Context, now int64) error {
	var gone [][]byte
	err := s.db.Free(ctx, func(tx *store.Tx) error {
		gone = gone[:0]
		err := tx.Each(func(rows *sql.Rows) error {
			var k []byte
			err := rows.Scan(&k)
			gone = append(gone, k)
			return err
		}, `SELECT key FROM entries WHERE expires_at <= ? AND expires_at < 9223372036854775807 LIMIT ?`, now, sweepBatch)
		if err != nil {
			return err
		}
		for _, k := range gone {
			if _, err := tx.Exec(`DELETE FROM entries WHERE key = ?`, k); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.watchers.wake(gone)
	}
	return err
}
