package kv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Kind is what a mutation does.
type Kind string

// The kinds.
const (
	Set    Kind = "set"
	Delete Kind = "delete"
	// Sum, Min and Max combine the value with the one that is there. Where
	// there is none they set it.
	Sum Kind = "sum"
	Min Kind = "min"
	Max Kind = "max"
	// Append sets under the key with the write's versionstamp as one more part.
	Append Kind = "append"
)

// Mutation changes one key.
type Mutation struct {
	Kind Kind
	// Key is encoded.
	Key   []byte
	Value Value
	// ExpiresAt is zero for never.
	ExpiresAt time.Time
	Bounds    Bounds
}

// Check wants a key to have a version; 0 stands for a missing key.
type Check struct {
	Key     []byte
	Version int64
}

// Write is what one atomic write wants and does.
type Write struct {
	Checks    []Check
	Mutations []Mutation
	Enqueues  []Message
}

// FailedError is an ErrChanged that says which checks failed.
type FailedError struct{ Checks []int }

func (*FailedError) Error() string { return "a check failed" }

// Unwrap makes it an ErrChanged.
func (*FailedError) Unwrap() error { return ErrChanged }

// Condition judges the version that a write would replace; 0 stands for a
// missing key. A nil Condition holds always.
type Condition func(current int64) bool

func (c Condition) holds(current int64) bool { return c == nil || c(current) }

// Put sets one key on a condition and answers its version. The error is
// ErrChanged where the condition does not hold, and store.ErrFull or
// store.ErrQuota where there is no room.
func (s *Store) Put(ctx context.Context, m Mutation, when Condition) (version int64, err error) {
	m.Kind = Set
	return s.write(ctx, Write{Mutations: []Mutation{m}}, func(t *writing) error {
		if when == nil {
			return nil
		}
		current, err := t.version(m.Key)
		if err == nil && !when.holds(current) {
			err = ErrChanged
		}
		return err
	})
}

// Delete removes one key. The error is ErrNotFound where there is none, and
// ErrChanged where the condition does not hold.
func (s *Store) Delete(ctx context.Context, encoded []byte, when Condition) error {
	_, err := s.write(ctx, Write{Mutations: []Mutation{{Kind: Delete, Key: encoded}}}, func(t *writing) error {
		current, err := t.version(encoded)
		switch {
		case err != nil:
			return err
		case current == 0:
			return ErrNotFound
		case !when.holds(current):
			return ErrChanged
		}
		return nil
	})
	return err
}

// Atomic does all of a write, or nothing, and answers its version. The error is
// a FailedError where a check does not hold.
func (s *Store) Atomic(ctx context.Context, w Write) (version int64, err error) {
	return s.write(ctx, w, func(t *writing) error {
		var failed []int
		for i, c := range w.Checks {
			current, err := t.version(c.Key)
			if err != nil {
				return err
			}
			if current != c.Version {
				failed = append(failed, i)
			}
		}
		if failed != nil {
			return &FailedError{Checks: failed}
		}
		return nil
	})
}

// write checks a write's form and does it if want agrees.
func (s *Store) write(ctx context.Context, w Write, want func(*writing) error) (version int64, err error) {
	now := s.now()
	if err := w.check(now); err != nil {
		return 0, err
	}
	t := &writing{now: now.UnixMilli(), versions: &s.versions}
	do := s.db.Grow
	if w.frees() {
		do = s.db.Free
	}
	err = do(ctx, func(tx *store.Tx) error {
		t.Tx, t.touched, t.reserves = tx, t.touched[:0], 0
		if err := want(t); err != nil {
			return err
		}
		return t.run(w)
	})
	if err != nil {
		return 0, fmt.Errorf("writing: %w", err)
	}
	for c := &s.versions.ceiling; ; {
		if known := c.Load(); known >= t.reserves || c.CompareAndSwap(known, t.reserves) {
			break
		}
	}
	s.tell(w, t)
	return t.stamp, nil
}

// tell wakes those who wait for what was written.
func (s *Store) tell(w Write, t *writing) {
	s.watchers.wake(t.touched)
	if slices.ContainsFunc(w.Mutations, func(m Mutation) bool { return !m.ExpiresAt.IsZero() }) {
		signal(s.sooner)
	}
	if len(w.Enqueues) > 0 {
		signal(s.posted)
	}
}

// frees reports whether it makes room.
func (w Write) frees() bool {
	return len(w.Enqueues) == 0 && len(w.Mutations) > 0 &&
		!slices.ContainsFunc(w.Mutations, func(m Mutation) bool { return m.Kind != Delete })
}

// writing is one write in its transaction.
type writing struct {
	*store.Tx
	now, stamp int64
	versions   *versions
	// reserves is up to which versions it reserves; 0 for none.
	reserves int64
	// touched are the keys that it changed.
	touched [][]byte
}

func (t *writing) run(w Write) error {
	if err := t.number(); err != nil {
		return err
	}
	for i, m := range w.Mutations {
		if err := t.mutate(m); err != nil {
			return fmt.Errorf("mutation %d: %w", i, err)
		}
	}
	for _, m := range w.Enqueues {
		if err := t.post(m); err != nil {
			return err
		}
	}
	return nil
}

// reserved is how many versions are reserved at once: a write that reserves none
// has nothing to read and one page less to write.
const reserved = 1000

// versions are a store's. After a start those that were reserved and not used
// are passed over.
type versions struct {
	// last is the version given last, 0 for not known. Only functions that
	// Update runs touch it, which run one after another.
	last int64
	// ceiling is up to which versions are known to be reserved on the disk.
	ceiling atomic.Int64
}

// number gives the write its version. A reservation counts once it is
// committed: until then each write that finds none makes it again.
func (t *writing) number() error {
	v := t.versions
	if v.last != 0 && v.last < v.ceiling.Load() {
		v.last++
		t.stamp = v.last
		return nil
	}
	var there int64
	if err := t.QueryRow(`SELECT last FROM versions`).Scan(&there); err != nil {
		return err
	}
	if v.last == 0 {
		v.last = there
	}
	v.last++
	if t.stamp = v.last; t.stamp <= there {
		return nil
	}
	t.reserves = t.stamp + reserved - 1
	_, err := t.Exec(`UPDATE versions SET last = ?`, t.reserves)
	return err
}

func (t *writing) mutate(m Mutation) error {
	encoded := m.Key
	switch m.Kind {
	case Delete:
		t.touched = append(t.touched, encoded)
		_, err := t.Exec(`DELETE FROM entries WHERE key = ?`, encoded)
		return err
	case Append:
		encoded = appendStamp(encoded, t.stamp)
	case Sum, Min, Max:
		combined, err := t.combine(m)
		if err != nil {
			return err
		}
		m.Value = combined
	}
	t.touched = append(t.touched, encoded)
	expires := int64(never)
	if !m.ExpiresAt.IsZero() {
		expires = m.ExpiresAt.UnixMilli()
	}
	_, err := t.Exec(`
		INSERT INTO entries (key, value, encoding, version, updated_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value, encoding = excluded.encoding,
			version = excluded.version, updated_at = excluded.updated_at, expires_at = excluded.expires_at`,
		encoded, notNil(m.Value.Data), m.Value.Encoding, t.stamp, t.now, expires)
	return err
}

// appendStamp adds a versionstamp to a key, as a part that is a string.
func appendStamp(encoded []byte, version int64) []byte {
	b := append(make([]byte, 0, len(encoded)+2+2*versionstampBytes), encoded...)
	return append(append(append(b, 0x02), Versionstamp(version)...), 0)
}

// version is 0 where the key is missing.
func (t *writing) version(encoded []byte) (version int64, err error) {
	err = t.QueryRow(`SELECT version FROM entries WHERE key = ? AND expires_at > ?`, encoded, t.now).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return version, err
}
