package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// finish does what an outcome says. The error is ErrLost where its receipt is
// not good.
func (q *Queue) finish(tx *store.Tx, queue string, o outcome, now time.Time) error {
	if o.err == nil {
		result, err := tx.Exec(`DELETE FROM messages WHERE id = ? AND state = 1 AND receipt = ? AND queue = ?`, o.id, o.receipt, queue)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(ErrLost, err)
		}
		return nil
	}
	m, err := scan(tx.QueryRow(`SELECT `+columns+` FROM messages WHERE id = ? AND state = 1 AND receipt = ? AND queue = ?`, o.id, o.receipt, queue))
	if errors.Is(err, sql.ErrNoRows) {
		return ErrLost
	}
	if err != nil {
		return err
	}
	return q.failed(tx, m, o, now)
}

// failed makes a message wait for its next attempt, or dead.
func (q *Queue) failed(tx *store.Tx, m Message, o outcome, now time.Time) error {
	backoff := m.Backoff
	if backoff == nil {
		backoff = DefaultBackoff()
	}
	state, due := Waiting, now
	switch {
	case m.Attempt > len(backoff):
		state = Dead
	case o.delay >= 0:
		due = now.Add(o.delay)
	default:
		due = now.Add(backoff[m.Attempt-1])
	}
	_, err := tx.Exec(`UPDATE messages SET state = ?, due_at = ?, receipt = '', error = ? WHERE id = ?`, state, due.UnixMilli(), shortened(o.err.Error()), m.ID)
	if err == nil && state == Dead && len(m.Undelivered) > 0 {
		_, err = tx.Exec(`INSERT OR IGNORE INTO handovers VALUES (?)`, m.ID)
	}
	return err
}

// shortened bounds what a consumer said, and makes it text.
func shortened(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= MaxErrorBytes {
		return s
	}
	s = s[:MaxErrorBytes]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// tell does what one outcome says.
func (q *Queue) tell(ctx context.Context, queue string, o outcome) error {
	err := q.db.Free(ctx, func(tx *store.Tx) error { return q.finish(tx, queue, o, q.now()) })
	if err != nil {
		return fmt.Errorf("ending a delivery: %w", err)
	}
	q.waiters.wake(queue)
	signal(q.schedule)
	return nil
}

// Ack ends a delivery that is done, and with it the message. The error is
// ErrLost where the receipt is not good.
func (q *Queue) Ack(ctx context.Context, queue string, id int64, receipt string) error {
	return q.tell(ctx, queue, outcome{id: id, receipt: receipt})
}

// Nack ends a delivery that failed: the message is tried again after its
// schedule's delay, or the given one where it is not negative, or is dead. The
// error is ErrLost where the receipt is not good.
func (q *Queue) Nack(ctx context.Context, queue string, id int64, receipt, reason string, delay time.Duration) error {
	if delay > MaxDelay {
		return fmt.Errorf("%w: delay: more than %s", ErrInvalid, MaxDelay)
	}
	return q.tell(ctx, queue, outcome{id: id, receipt: receipt, err: errors.New(reason), delay: delay})
}

// Extend makes a lease end that much later than now. The error is ErrLost where
// the receipt is not good.
func (q *Queue) Extend(ctx context.Context, queue string, id int64, receipt string, lease time.Duration) (until time.Time, err error) {
	if err := checkLease(lease); err != nil {
		return until, err
	}
	until = q.now().Add(lease)
	err = q.db.Update(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec(`UPDATE messages SET due_at = ? WHERE id = ? AND state = 1 AND receipt = ? AND queue = ?`, until.UnixMilli(), id, receipt, queue)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(ErrLost, err)
		}
		return nil
	})
	if err != nil {
		return until, fmt.Errorf("extending a lease: %w", err)
	}
	return until.UTC(), nil
}
