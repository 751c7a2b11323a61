package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"regexp"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// CheckName refuses what is no queue's name, or a schedule's.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("%w: a name is of lower case letters, digits, dots, hyphens and underscores, 64 at most", ErrInvalid)
	}
	return nil
}

// check refuses what is too much or makes no sense, and names it.
func (j Job) check(now time.Time) error {
	if err := CheckName(j.Queue); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if _, _, err := mime.ParseMediaType(j.ContentType); j.ContentType != "" && err != nil || len(j.ContentType) > MaxKeyBytes {
		return fmt.Errorf("content type: %w", ErrInvalid)
	}
	switch {
	case len(j.Body) > MaxBodyBytes:
		return fmt.Errorf("%w: the body has %d bytes, at most %d", ErrInvalid, len(j.Body), MaxBodyBytes)
	case j.Priority < 0 || j.Priority > MaxPriority:
		return fmt.Errorf("%w: priority: want 0 to %d", ErrInvalid, MaxPriority)
	case j.DueAt.Sub(now) > MaxDelay:
		return fmt.Errorf("%w: delay: more than %s", ErrInvalid, MaxDelay)
	case len(j.Key) > MaxKeyBytes:
		return fmt.Errorf("%w: idempotency key: more than %d bytes", ErrInvalid, MaxKeyBytes)
	case len(j.Undelivered) > maxUndelivered:
		return fmt.Errorf("%w: more than %d keys", ErrInvalid, maxUndelivered)
	}
	return checkBackoff(j.Backoff)
}

func checkBackoff(all []time.Duration) error {
	if len(all) > MaxBackoffs {
		return fmt.Errorf("%w: backoff: %d delays, at most %d", ErrInvalid, len(all), MaxBackoffs)
	}
	for _, d := range all {
		if d < 0 || d > MaxDelay {
			return fmt.Errorf("%w: backoff: a delay of %s, at most %s", ErrInvalid, d, MaxDelay)
		}
	}
	return nil
}

// Enqueue takes a message in. Duplicate says that its idempotency key was known,
// and id is the first message's. The error is ErrKeyReused where that one was
// another message, and store.ErrFull or store.ErrQuota where there is no room.
func (q *Queue) Enqueue(ctx context.Context, j Job) (id int64, duplicate bool, err error) {
	now := q.now()
	if err := j.check(now); err != nil {
		return 0, false, err
	}
	if j.DueAt.Before(now) {
		j.DueAt = now
	}
	err = q.db.Grow(ctx, func(tx *store.Tx) error {
		if id, duplicate, err = lookUp(tx, j, now); err != nil || duplicate {
			return err
		}
		if id, err = insert(tx, j, now); err != nil || j.Key == "" {
			return err
		}
		_, err = tx.Exec(`INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)`, j.Queue, j.Key, j.digest(), id, now.Add(keyLife).UnixMilli())
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("taking a message in: %w", err)
	}
	q.waiters.wake(j.Queue)
	return id, duplicate, nil
}

// digest is of what a message is about.
func (j Job) digest() []byte {
	b := binary.AppendUvarint(nil, uint64(len(j.ContentType)))
	sum := sha256.Sum256(append(append(b, j.ContentType...), j.Body...))
	return sum[:]
}

func lookUp(tx *store.Tx, j Job, now time.Time) (id int64, found bool, err error) {
	if j.Key == "" {
		return 0, false, nil
	}
	var digest []byte
	err = tx.QueryRow(`SELECT message, digest FROM seen WHERE queue = ? AND key = ? AND expires_at > ?`, j.Queue, j.Key, now.UnixMilli()).Scan(&id, &digest)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case err == nil && !bytes.Equal(digest, j.digest()):
		return 0, false, ErrKeyReused
	}
	return id, true, err
}

func insert(tx *store.Tx, j Job, now time.Time) (id int64, err error) {
	backoff, err := encodeBackoff(j.Backoff)
	if err != nil {
		return 0, err
	}
	undelivered, err := json.Marshal(j.Undelivered)
	if err != nil {
		return 0, err
	}
	if j.Undelivered == nil {
		undelivered = nil
	}
	body := j.Body
	if body == nil {
		body = []byte{}
	}
	result, err := tx.Exec(`INSERT INTO messages
		(queue, state, priority, due_at, attempt, receipt, content_type, body, backoff, undelivered, enqueued_at, error)
		VALUES (?, 0, ?, ?, 0, '', ?, ?, ?, ?, ?, '')`,
		j.Queue, j.Priority, j.DueAt.UnixMilli(), j.ContentType, body, backoff, string(undelivered), now.UnixMilli())
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

// encodeBackoff is empty for the default, which may be another one day.
func encodeBackoff(all []time.Duration) (string, error) {
	if all == nil {
		return "", nil
	}
	b, err := json.Marshal(all)
	return string(b), err
}

func decodeBackoff(text string) (all []time.Duration, err error) {
	if text == "" {
		return nil, nil
	}
	err = json.Unmarshal([]byte(text), &all)
	return all, err
}
