package functions

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The bounds of a function's own keys.
const (
	maxKeyBytes   = 512
	maxValueBytes = 64 << 10
	maxKeys       = 10_000
	maxKept       = 16 << 20
	maxListed     = 1000
)

var (
	errChanged  = errors.New("the key has another version")
	errKeysFull = errors.New("the function has as many keys, or bytes in them, as it may")
)

// keys are one function's.
type keys struct {
	db   *store.DB
	name string
}

type kept struct {
	Value   json.RawMessage `json:"value"`
	Version int64           `json:"version"`
}

// get answers version 0 where there is no such key.
func (k keys) get(ctx context.Context, key string) (v kept, err error) {
	var value string
	err = k.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT value, version FROM keys WHERE name = ? AND key = ?`, k.name, key).Scan(&value, &v.Version)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return kept{Value: json.RawMessage("null")}, nil
	}
	v.Value = json.RawMessage(value)
	return v, err
}

// set keeps a value and answers its version; where when is not nil, only over
// that version, 0 being none. Errors are errChanged and errKeysFull.
func (k keys) set(ctx context.Context, key string, value json.RawMessage, when *int64) (version int64, err error) {
	err = k.db.Update(ctx, func(tx *store.Tx) error {
		if err := there(tx, k.name); err != nil {
			return err
		}
		current, err := k.current(tx, key, when)
		if err != nil {
			return err
		}
		var count, size int64
		if err := tx.QueryRow(`SELECT count(*), coalesce(sum(length(key) + length(value)), 0) FROM keys WHERE name = ? AND key <> ?`, k.name, key).Scan(&count, &size); err != nil {
			return err
		}
		if count >= maxKeys || size+int64(len(key)+len(value)) > maxKept {
			return errKeysFull
		}
		version = current + 1
		_, err = tx.Exec(`INSERT INTO keys (name, key, value, version) VALUES (?, ?, ?, ?)
			ON CONFLICT (name, key) DO UPDATE SET value = excluded.value, version = excluded.version`, k.name, key, string(value), version)
		return err
	})
	return version, err
}

// current is the version that a key has. A deleted key begins anew.
func (k keys) current(tx *store.Tx, key string, when *int64) (version int64, err error) {
	err = tx.QueryRow(`SELECT version FROM keys WHERE name = ? AND key = ?`, k.name, key).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, err
	}
	if when != nil && *when != version {
		return 0, fmt.Errorf("%w: %d", errChanged, version)
	}
	return version, nil
}

func (k keys) remove(ctx context.Context, key string, when *int64) error {
	return k.db.Free(ctx, func(tx *store.Tx) error {
		if _, err := k.current(tx, key, when); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM keys WHERE name = ? AND key = ?`, k.name, key)
		return err
	})
}

// list answers the keys that begin with prefix and come after another.
func (k keys) list(ctx context.Context, prefix, after string) (found []string, err error) {
	found = []string{}
	err = k.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var key string
			err := rows.Scan(&key)
			found = append(found, key)
			return err
		}, `SELECT key FROM keys WHERE name = ? AND key > ? AND substr(key, 1, length(?)) = ? ORDER BY key LIMIT ?`, k.name, after, prefix, prefix, maxListed)
	})
	return found, err
}
