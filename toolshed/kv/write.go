package kv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Condition judges the version that a write would replace; 0 stands for a
// missing key. A nil Condition holds always.
type Condition func(current int64) bool

func (c Condition) holds(current int64) bool { return c == nil || c(current) }

// Put writes one value of at most MaxValueBytes under a key of at most
// MaxKeyBytes and answers its version. The error is ErrChanged where the
// condition does not hold, and store.ErrFull where the disk has no room.
func (s *Store) Put(ctx context.Context, key string, value []byte, when Condition) (version int64, err error) {
	if value == nil {
		value = []byte{}
	}
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		current, err := currentVersion(tx, key)
		if err != nil {
			return err
		}
		if !when.holds(current) {
			return ErrChanged
		}
		if err := tx.QueryRow(`UPDATE versions SET last = last + 1 RETURNING last`).Scan(&version); err != nil {
			return err
		}
		_, err = tx.Exec(`
			INSERT INTO kv (key, value, version, updated_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (key) DO UPDATE
			SET value = excluded.value, version = excluded.version, updated_at = excluded.updated_at`,
			key, value, version, s.now().UnixMilli())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("putting a key: %w", err)
	}
	return version, nil
}

// Delete removes one key. The error is ErrNotFound where there is none, and
// ErrChanged where the condition does not hold.
func (s *Store) Delete(ctx context.Context, key string, when Condition) error {
	err := s.db.Free(ctx, func(tx *store.Tx) error {
		current, err := currentVersion(tx, key)
		if err != nil {
			return err
		}
		if current == 0 {
			return ErrNotFound
		}
		if !when.holds(current) {
			return ErrChanged
		}
		_, err = tx.Exec(`DELETE FROM kv WHERE key = ?`, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting a key: %w", err)
	}
	return nil
}

// currentVersion is 0 where the key is missing.
func currentVersion(tx *store.Tx, key string) (version int64, err error) {
	err = tx.QueryRow(`SELECT version FROM kv WHERE key = ?`, key).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return version, err
}
