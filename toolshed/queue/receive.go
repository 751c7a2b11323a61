package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

const columns = `id, queue, state, priority, due_at, attempt, receipt, content_type, body, backoff, undelivered, enqueued_at, error`

func scan(row interface{ Scan(...any) error }) (m Message, err error) {
	var due, enqueued int64
	var backoff, undelivered string
	err = row.Scan(&m.ID, &m.Queue, &m.State, &m.Priority, &due, &m.Attempt, &m.Receipt, &m.ContentType, &m.Body, &backoff, &undelivered, &enqueued, &m.Error)
	if err != nil {
		return m, err
	}
	m.EnqueuedAt = time.UnixMilli(enqueued).UTC()
	m.DueAt = time.UnixMilli(due).UTC()
	if m.State == Leased {
		m.LeaseEnds = m.DueAt
	}
	if m.Backoff, err = decodeBackoff(backoff); err != nil {
		return m, err
	}
	if undelivered != "" {
		err = json.Unmarshal([]byte(undelivered), &m.Undelivered)
	}
	return m, err
}

// outcome is what a consumer says of a delivery.
type outcome struct {
	id      int64
	receipt string
	// err is nil where it is done; delay, where it is not negative, takes the
	// place of the schedule's.
	err   error
	delay time.Duration
}

// claim finds messages of a queue that are due, the first by priority, then by
// time. Next is when there may be more, zero for not known.
func (q *Queue) claim(tx *store.Tx, queue string, want int, now time.Time) (claimed []Message, next time.Time, err error) {
	priority := MaxPriority + 1
	for {
		var highest sql.NullInt64
		if err := tx.QueryRow(`SELECT max(priority) FROM messages WHERE queue = ? AND state = 0 AND priority < ?`, queue, priority).Scan(&highest); err != nil {
			return nil, next, err
		}
		if !highest.Valid {
			return claimed, next, nil
		}
		priority = int(highest.Int64)
		err := tx.Each(func(rows *sql.Rows) error {
			m, err := scan(rows)
			if err != nil {
				return err
			}
			if m.DueAt.After(now) {
				if next.IsZero() || m.DueAt.Before(next) {
					next = m.DueAt
				}
				return nil
			}
			claimed = append(claimed, m)
			return nil
		}, `SELECT `+columns+` FROM messages WHERE queue = ? AND state = 0 AND priority = ? ORDER BY due_at, id LIMIT ?`,
			queue, priority, want-len(claimed))
		if err != nil {
			return nil, next, err
		}
		if len(claimed) == want {
			break
		}
	}
	return claimed, now, nil
}

// lease gives each of the messages a receipt.
func (q *Queue) lease(tx *store.Tx, claimed []Message, until time.Time) error {
	for i := range claimed {
		m := &claimed[i]
		receipt, err := q.newReceipt()
		if err != nil {
			return err
		}
		m.State, m.Receipt, m.LeaseEnds, m.Attempt = Leased, receipt, until.UTC(), m.Attempt+1
		_, err = tx.Exec(`UPDATE messages SET state = 1, due_at = ?, receipt = ?, attempt = ? WHERE id = ?`, until.UnixMilli(), receipt, m.Attempt, m.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// step tells what became of deliveries and leases others, in one commit, which
// the power may take: then what was delivered is delivered again. Next is when
// more may be due; it is now where there were as many as wanted.
func (q *Queue) step(ctx context.Context, queue string, finished []outcome, want int, lease time.Duration) (claimed []Message, next time.Time, err error) {
	now := q.now()
	do := q.db.UpdateUnsynced
	if want == 0 {
		do = q.db.Free
	}
	err = do(ctx, func(tx *store.Tx) error {
		for _, o := range finished {
			// Somebody else may have it by now: then this delivery does not
			// count.
			if err := q.finish(tx, queue, o, now); err != nil && !errors.Is(err, ErrLost) {
				return err
			}
		}
		if claimed = nil; want == 0 {
			return nil
		}
		if claimed, next, err = q.claim(tx, queue, want, now); err != nil {
			return err
		}
		return q.lease(tx, claimed, now.Add(lease))
	})
	if err != nil {
		return nil, next, fmt.Errorf("delivering: %w", err)
	}
	if len(claimed) > 0 {
		signal(q.schedule)
	}
	return claimed, next, nil
}

// Receive leases up to so many messages, and waits for the first until ctx
// ends, which is no error. Leases end by themselves.
func (q *Queue) Receive(ctx context.Context, queue string, most int, lease time.Duration) ([]Message, error) {
	if err := checkReceive(queue, most, lease); err != nil {
		return nil, err
	}
	changed, leave := q.waiters.join(queue)
	defer leave()
	for {
		claimed, next, err := q.step(context.WithoutCancel(ctx), queue, nil, most, lease)
		if err != nil || len(claimed) > 0 {
			return claimed, err
		}
		if !q.wait(ctx, changed, next) {
			return nil, nil
		}
	}
}

func checkReceive(queue string, most int, lease time.Duration) error {
	if err := CheckName(queue); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if most < 1 || most > MaxReceive {
		return fmt.Errorf("%w: max: want 1 to %d", ErrInvalid, MaxReceive)
	}
	return checkLease(lease)
}

func checkLease(lease time.Duration) error {
	if lease < MinLease || lease > MaxLease {
		return fmt.Errorf("%w: lease: want %s to %s", ErrInvalid, MinLease, MaxLease)
	}
	return nil
}

// wait waits until a queue changes or the time has come, and reports false once
// ctx has ended.
func (q *Queue) wait(ctx context.Context, changed <-chan struct{}, next time.Time) bool {
	var due <-chan time.Time
	if !next.IsZero() {
		timer := time.NewTimer(q.until(next))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-due:
	}
	return ctx.Err() == nil
}
