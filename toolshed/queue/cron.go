package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Cron is a schedule on which a message is enqueued, in UTC.
type Cron struct {
	Name string
	// Spec is minute, hour, day of the month, month and day of the week.
	Spec string
	Job  Job
	// Next is when it comes next, Last when it last did; zero for never.
	Next, Last time.Time
}

// validSpec keeps time zones and other extensions of the library out: five
// fields of digits, names and * , - / alone.
var validSpec = regexp.MustCompile(`^[0-9A-Za-z*,/?-]+( [0-9A-Za-z*,/?-]+){4}$`)

const maxSpecBytes = 200

// parseSpec reads a schedule. One that never comes is refused.
func parseSpec(spec string, now time.Time) (next time.Time, err error) {
	if len(spec) > maxSpecBytes || !validSpec.MatchString(spec) {
		return next, fmt.Errorf("%w: schedule: want five fields, as in 30 4 * * mon-fri", ErrInvalid)
	}
	s, err := cron.ParseStandard(spec)
	if err != nil {
		return next, fmt.Errorf("%w: schedule: %w", ErrInvalid, err)
	}
	if next = s.Next(now.UTC()); next.IsZero() {
		return next, fmt.Errorf("%w: schedule: it never comes", ErrInvalid)
	}
	return next, nil
}

// PutCron makes a schedule, or replaces the one of the same name.
func (q *Queue) PutCron(ctx context.Context, c Cron) (Cron, error) {
	now := q.now()
	if err := CheckName(c.Name); err != nil {
		return c, fmt.Errorf("name: %w", err)
	}
	if err := c.Job.check(now); err != nil {
		return c, err
	}
	var err error
	if c.Next, err = parseSpec(c.Spec, now); err != nil {
		return c, err
	}
	backoff, err := encodeBackoff(c.Job.Backoff)
	if err != nil {
		return c, fmt.Errorf("keeping a schedule: %w", err)
	}
	body := append([]byte{}, c.Job.Body...)
	err = q.db.Grow(ctx, func(tx *store.Tx) error {
		var others int
		if err := tx.QueryRow(`SELECT count(*) FROM crons WHERE name <> ?`, c.Name).Scan(&others); err != nil {
			return err
		}
		if others >= MaxCrons {
			return fmt.Errorf("%w: there are %d schedules, which is all there may be", ErrInvalid, others)
		}
		_, err := tx.Exec(`INSERT INTO crons VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (name) DO UPDATE SET
			spec = excluded.spec, queue = excluded.queue, content_type = excluded.content_type, body = excluded.body,
			backoff = excluded.backoff, next_at = excluded.next_at`,
			c.Name, c.Spec, c.Job.Queue, c.Job.ContentType, body, backoff, c.Next.UnixMilli())
		return err
	})
	if err != nil {
		return c, fmt.Errorf("keeping a schedule: %w", err)
	}
	signal(q.schedule)
	return c, nil
}

// DeleteCron ends a schedule. The error is ErrNotFound where there is none.
func (q *Queue) DeleteCron(ctx context.Context, name string) error {
	err := q.db.Free(ctx, func(tx *store.Tx) error { return deleted(tx.Exec(`DELETE FROM crons WHERE name = ?`, name)) })
	if err != nil {
		return fmt.Errorf("ending a schedule: %w", err)
	}
	return nil
}

// deleted is ErrNotFound where nothing was.
func deleted(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n == 0 {
		return errors.Join(ErrNotFound, err)
	}
	return nil
}

// Crons are the schedules, by name.
func (q *Queue) Crons(ctx context.Context) (all []Cron, err error) {
	err = q.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			c, err := scanCron(rows)
			all = append(all, c)
			return err
		}, `SELECT * FROM crons ORDER BY name`)
	})
	if err != nil {
		return nil, fmt.Errorf("reading schedules: %w", err)
	}
	return all, nil
}

func scanCron(rows *sql.Rows) (c Cron, err error) {
	var next, last int64
	var backoff string
	if err := rows.Scan(&c.Name, &c.Spec, &c.Job.Queue, &c.Job.ContentType, &c.Job.Body, &backoff, &next, &last); err != nil {
		return c, err
	}
	c.Next = time.UnixMilli(next).UTC()
	if last != 0 {
		c.Last = time.UnixMilli(last).UTC()
	}
	c.Job.Backoff, err = decodeBackoff(backoff)
	return c, err
}

// startCrons enqueues what has come. What was missed while nothing ran comes
// once.
func (q *Queue) startCrons(ctx context.Context) error {
	now := q.now()
	all, err := q.Crons(ctx)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Next.After(now) {
			continue
		}
		if err := q.startCron(ctx, c, now); err != nil {
			return fmt.Errorf("starting what is scheduled: %w", err)
		}
		q.waiters.wake(c.Job.Queue)
	}
	return nil
}

// startCron enqueues and moves the schedule on, in one transaction.
func (q *Queue) startCron(ctx context.Context, c Cron, now time.Time) error {
	next, err := parseSpec(c.Spec, now)
	if err != nil {
		return err
	}
	return q.db.Grow(ctx, func(tx *store.Tx) error {
		r, err := tx.Exec(`UPDATE crons SET next_at = ?, last_at = ? WHERE name = ? AND next_at = ?`, next.UnixMilli(), now.UnixMilli(), c.Name, c.Next.UnixMilli())
		// Another has it by now, or nobody.
		if err := deleted(r, err); errors.Is(err, ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		c.Job.DueAt = now
		_, err = insert(tx, c.Job, now)
		return err
	})
}
