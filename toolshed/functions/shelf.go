package functions

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "functions", SecureDelete: true, Migrations: []store.Migration{store.Statements(`
	CREATE TABLE functions (
		name       TEXT PRIMARY KEY,
		version    INTEGER NOT NULL,
		last       INTEGER NOT NULL,
		settings   TEXT NOT NULL,
		calls      INTEGER NOT NULL DEFAULT 0,
		failures   INTEGER NOT NULL DEFAULT 0,
		time_us    INTEGER NOT NULL DEFAULT 0,
		host_calls INTEGER NOT NULL DEFAULT 0,
		peak_bytes INTEGER NOT NULL DEFAULT 0,
		created_at INTEGER NOT NULL,
		updated_at INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE versions (
		name       TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
		version    INTEGER NOT NULL,
		hash       BLOB NOT NULL,
		size       INTEGER NOT NULL,
		created_at INTEGER NOT NULL,
		module     BLOB NOT NULL,
		PRIMARY KEY (name, version)
	) STRICT;
	CREATE INDEX versions_hash ON versions (hash);
	CREATE TABLE secrets (
		name  TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
		key   TEXT NOT NULL,
		value TEXT NOT NULL,
		PRIMARY KEY (name, key)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE keys (
		name    TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
		key     TEXT NOT NULL,
		value   TEXT NOT NULL,
		version INTEGER NOT NULL,
		PRIMARY KEY (name, key)
	) STRICT, WITHOUT ROWID;
	CREATE TABLE logs (
		id         INTEGER PRIMARY KEY AUTOINCREMENT,
		name       TEXT NOT NULL REFERENCES functions (name) ON DELETE CASCADE,
		version    INTEGER NOT NULL,
		trigger    TEXT NOT NULL,
		at         INTEGER NOT NULL,
		time_us    INTEGER NOT NULL,
		peak_bytes INTEGER NOT NULL,
		host_calls INTEGER NOT NULL,
		failure    TEXT NOT NULL,
		text       TEXT NOT NULL
	) STRICT;
	CREATE INDEX logs_name ON logs (name, id)`)}}

// Hash names a module by its bytes.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// shelf keeps functions in their database.
type shelf struct {
	db    *store.DB
	now   func() time.Time
	quota int64
	// mu guards known, and how often something changed.
	mu         sync.Mutex
	known      map[string]callable
	generation int
}

// put adds a version, which is called from then on, and answers the one that is
// there where it has the same module. Hashes are of modules that no function
// has any more.
func (s *shelf) put(ctx context.Context, name string, module []byte) (version int64, isNew bool, dropped []Hash, err error) {
	hash := Hash(sha256.Sum256(module))
	err = s.update(ctx, s.db.Update, func(tx *store.Tx) error {
		version, isNew, dropped = 0, false, nil
		if err := s.make(tx, name); err != nil {
			return err
		}
		err := tx.QueryRow(`SELECT v.version FROM functions f JOIN versions v ON v.name = f.name AND v.version = f.version
			WHERE f.name = ? AND v.hash = ?`, name, hash[:]).Scan(&version)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var kept int64
		if err := tx.QueryRow(`SELECT coalesce(sum(size), 0) FROM versions`).Scan(&kept); err != nil {
			return err
		}
		if kept+int64(len(module)) > s.quota {
			return ErrQuota
		}
		isNew = true
		if err := tx.QueryRow(`UPDATE functions SET last = last + 1, version = last + 1, updated_at = ? WHERE name = ? RETURNING version`,
			s.now().UnixMilli(), name).Scan(&version); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO versions (name, version, hash, size, created_at, module) VALUES (?, ?, ?, ?, ?, ?)`,
			name, version, hash[:], len(module), s.now().UnixMilli(), module); err != nil {
			return err
		}
		dropped, err = drop(tx, `name = ? AND version <= ?`, name, version-MaxVersions)
		return err
	})
	if err != nil {
		return 0, false, nil, fmt.Errorf("keeping a module: %w", err)
	}
	return version, isNew, dropped, nil
}

// make makes a function where there is none.
func (s *shelf) make(tx *store.Tx, name string) error {
	var count, there int64
	if err := tx.QueryRow(`SELECT count(*), count(CASE WHEN name = ? THEN 1 END) FROM functions`, name).Scan(&count, &there); err != nil {
		return err
	}
	if there > 0 {
		return nil
	}
	if count >= MaxFunctions {
		return ErrTooMany
	}
	settings := Settings{}
	if err := settings.check(s.now()); err != nil {
		return err
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO functions (name, version, last, settings, created_at, updated_at) VALUES (?, 0, 0, ?, ?, ?)`,
		name, string(text), s.now().UnixMilli(), s.now().UnixMilli())
	return err
}

// drop removes versions, and answers the modules that are gone with them.
func drop(tx *store.Tx, where string, args ...any) (gone []Hash, err error) {
	var hashes []Hash
	err = tx.Each(func(rows *sql.Rows) error {
		var h []byte
		if err := rows.Scan(&h); err != nil {
			return err
		}
		hashes = append(hashes, Hash(h))
		return nil
	}, `SELECT DISTINCT hash FROM versions WHERE `+where, args...)
	if err != nil || hashes == nil {
		return nil, err
	}
	if _, err := tx.Exec(`DELETE FROM versions WHERE `+where, args...); err != nil {
		return nil, err
	}
	for _, h := range hashes {
		var left int64
		if err := tx.QueryRow(`SELECT count(*) FROM versions WHERE hash = ?`, h[:]).Scan(&left); err != nil {
			return nil, err
		}
		if left == 0 {
			gone = append(gone, h)
		}
	}
	return gone, nil
}

// rollback has another version called. Errors are ErrNotFound and ErrVersion.
func (s *shelf) rollback(ctx context.Context, name string, version int64) error {
	err := s.update(ctx, s.db.Update, func(tx *store.Tx) error {
		if err := there(tx, name); err != nil {
			return err
		}
		done, err := tx.Exec(`UPDATE functions SET version = ?, updated_at = ? WHERE name = ?
			AND EXISTS (SELECT 1 FROM versions WHERE name = ? AND version = ?)`, version, s.now().UnixMilli(), name, name, version)
		return changed(done, err, ErrVersion)
	})
	return wrap("rolling back", err)
}

// set replaces a function's settings. Errors are ErrNotFound and a *FieldError.
func (s *shelf) set(ctx context.Context, name string, settings Settings) error {
	if err := settings.check(s.now()); err != nil {
		return err
	}
	text, err := json.Marshal(settings)
	if err != nil {
		return fmt.Errorf("writing settings: %w", err)
	}
	err = s.update(ctx, s.db.Update, func(tx *store.Tx) error {
		done, err := tx.Exec(`UPDATE functions SET settings = ?, updated_at = ? WHERE name = ?`, string(text), s.now().UnixMilli(), name)
		return changed(done, err, ErrNotFound)
	})
	return wrap("keeping settings", err)
}

// remove forgets a function with all that it has.
func (s *shelf) remove(ctx context.Context, name string) (gone []Hash, err error) {
	err = s.update(ctx, s.db.Free, func(tx *store.Tx) error {
		if err := there(tx, name); err != nil {
			return err
		}
		if gone, err = drop(tx, `name = ?`, name); err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM functions WHERE name = ?`, name)
		return err
	})
	return gone, wrap("deleting a function", err)
}

// setSecret keeps a secret.
func (s *shelf) setSecret(ctx context.Context, name, key, value string) error {
	if err := checkVariable("secrets", key, value); err != nil {
		return err
	}
	err := s.update(ctx, s.db.Update, func(tx *store.Tx) error {
		if err := there(tx, name); err != nil {
			return err
		}
		var others int
		if err := tx.QueryRow(`SELECT count(*) FROM secrets WHERE name = ? AND key <> ?`, name, key).Scan(&others); err != nil {
			return err
		}
		if others >= maxSecrets {
			return &FieldError{"secrets", fmt.Sprintf("a function has at most %d", maxSecrets)}
		}
		_, err := tx.Exec(`INSERT INTO secrets (name, key, value) VALUES (?, ?, ?) ON CONFLICT (name, key) DO UPDATE SET value = excluded.value`, name, key, value)
		return err
	})
	return wrap("keeping a secret", err)
}

func (s *shelf) removeSecret(ctx context.Context, name, key string) error {
	err := s.update(ctx, s.db.Free, func(tx *store.Tx) error {
		done, err := tx.Exec(`DELETE FROM secrets WHERE name = ? AND key = ?`, name, key)
		return changed(done, err, ErrSecret)
	})
	return wrap("deleting a secret", err)
}

func there(tx *store.Tx, name string) error {
	var one int
	err := tx.QueryRow(`SELECT 1 FROM functions WHERE name = ?`, name).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

func changed(done sql.Result, err, otherwise error) error {
	if err != nil {
		return err
	}
	n, err := done.RowsAffected()
	if err == nil && n == 0 {
		return otherwise
	}
	return err
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
