package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Counts is what a queue holds.
type Counts struct {
	Queue string
	// Waiting are due, Delayed are not yet.
	Waiting, Delayed, Leased, Dead int64
}

// Queues are those that hold something, by name.
func (q *Queue) Queues(ctx context.Context) (all []Counts, err error) {
	err = q.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var c Counts
			err := rows.Scan(&c.Queue, &c.Waiting, &c.Delayed, &c.Leased, &c.Dead)
			all = append(all, c)
			return err
		}, `SELECT queue, sum(state = 0 AND due_at <= ?1), sum(state = 0 AND due_at > ?1), sum(state = 1), sum(state = 2) FROM messages GROUP BY queue ORDER BY queue`, q.now().UnixMilli())
	})
	if err != nil {
		return nil, fmt.Errorf("counting messages: %w", err)
	}
	return all, nil
}

// List answers messages of a queue in one state, by id, after the given one.
func (q *Queue) List(ctx context.Context, queue string, state State, after int64, limit int) (all []Message, more bool, err error) {
	err = q.collect(ctx, &all, `WHERE queue = ? AND state = ? AND id > ? ORDER BY id LIMIT ?`, queue, state, after, limit+1)
	if err != nil {
		return nil, false, err
	}
	return all[:min(limit, len(all))], len(all) > limit, nil
}

// Get answers one message. The error is ErrNotFound where there is none.
func (q *Queue) Get(ctx context.Context, queue string, id int64) (Message, error) {
	var all []Message
	if err := q.collect(ctx, &all, `WHERE id = ? AND queue = ?`, id, queue); err != nil {
		return Message{}, err
	}
	if len(all) == 0 {
		return Message{}, ErrNotFound
	}
	return all[0], nil
}

// Delete drops a message, whatever its state; who works on it finds its receipt
// no longer good. The error is ErrNotFound where there is none.
func (q *Queue) Delete(ctx context.Context, queue string, id int64) error {
	err := q.db.Free(ctx, func(tx *store.Tx) error {
		return deleted(tx.Exec(`DELETE FROM messages WHERE id = ? AND queue = ?`, id, queue))
	})
	if err != nil {
		return fmt.Errorf("deleting a message: %w", err)
	}
	q.waiters.wake(queue)
	return nil
}

// Retry makes a dead message wait as if it were new, or one that waits due now.
// The error is ErrNotFound where there is none, ErrInvalid where it is leased.
func (q *Queue) Retry(ctx context.Context, queue string, id int64) error {
	err := q.db.Update(ctx, func(tx *store.Tx) error {
		var state State
		err := tx.QueryRow(`SELECT state FROM messages WHERE id = ? AND queue = ?`, id, queue).Scan(&state)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case state == Leased:
			return fmt.Errorf("%w: the message is being worked on", ErrInvalid)
		}
		_, err = tx.Exec(`UPDATE messages SET state = 0, due_at = ?, attempt = CASE state WHEN 2 THEN 0 ELSE attempt END WHERE id = ?`, q.now().UnixMilli(), id)
		if err == nil {
			_, err = tx.Exec(`DELETE FROM handovers WHERE message = ?`, id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("trying a message again: %w", err)
	}
	q.waiters.wake(queue)
	return nil
}

// held reports which of the deliveries still have their leases.
func (q *Queue) held(ctx context.Context, deliveries map[int64]string) (held map[int64]string, err error) {
	held = map[int64]string{}
	err = q.db.View(ctx, func(tx *store.Tx) error {
		for id, receipt := range deliveries {
			var one int
			err := tx.QueryRow(`SELECT 1 FROM messages WHERE id = ? AND state = 1 AND receipt = ? AND due_at > ?`, id, receipt, q.now().UnixMilli()).Scan(&one)
			switch {
			case err == nil:
				held[id] = receipt
			case !errors.Is(err, sql.ErrNoRows):
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading leases: %w", err)
	}
	return held, nil
}

// Stream leases messages as they come, at most so many at once, and gives them
// to send until ctx ends or send fails. Idle is called in between.
func (q *Queue) Stream(ctx context.Context, queue string, most int, lease time.Duration, send func(Message) error, idle func() error) error {
	if err := checkReceive(queue, most, lease); err != nil {
		return err
	}
	changed, leave := q.waiters.join(queue)
	defer leave()
	outstanding := map[int64]string{}
	for {
		held, err := q.held(ctx, outstanding)
		if err != nil {
			return err
		}
		outstanding = held
		next := q.now().Add(idleEvery)
		if free := most - len(held); free > 0 {
			claimed, due, err := q.step(context.WithoutCancel(ctx), queue, nil, free, lease)
			if err != nil {
				return err
			}
			for _, m := range claimed {
				outstanding[m.ID] = m.Receipt
				if err := send(m); err != nil {
					return err
				}
			}
			if len(claimed) < free && !due.IsZero() && due.Before(next) {
				next = due
			}
		}
		if err := idle(); err != nil {
			return err
		}
		if !q.wait(ctx, changed, next) {
			return nil
		}
	}
}

// idleEvery is how often a stream with nothing to say shows that it lives.
const idleEvery = 5 * time.Second
