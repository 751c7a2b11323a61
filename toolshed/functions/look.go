package functions

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

const functionColumns = `SELECT name, version, settings, calls, failures, time_us, host_calls, peak_bytes, created_at, updated_at FROM functions`

// scanner is a row, or the one that was asked for.
type scanner interface{ Scan(...any) error }

func scanFunction(row scanner) (Function, error) {
	var f Function
	var settings string
	var created, updated int64
	a := &f.Account
	if err := row.Scan(&f.Name, &f.Version, &settings, &a.Calls, &a.Failures, &a.TimeUS, &a.HostCalls, &a.PeakBytes, &created, &updated); err != nil {
		return f, err
	}
	f.CreatedAt, f.UpdatedAt, f.Secrets = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC(), []string{}
	return f, json.Unmarshal([]byte(settings), &f.Settings)
}

// get is one function with the names of its secrets, and their values apart.
func (s *shelf) get(ctx context.Context, name string) (f Function, secrets map[string]string, err error) {
	secrets = map[string]string{}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		if f, err = scanFunction(tx.QueryRow(functionColumns+` WHERE name = ?`, name)); err != nil {
			return err
		}
		return tx.Each(func(rows *sql.Rows) error {
			var key, value string
			if err := rows.Scan(&key, &value); err != nil {
				return err
			}
			f.Secrets = append(f.Secrets, key)
			secrets[key] = value
			return nil
		}, `SELECT key, value FROM secrets WHERE name = ? ORDER BY key`, name)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return f, secrets, wrap("reading a function", err)
}

// list is every function, without the names of its secrets.
func (s *shelf) list(ctx context.Context) (all []Function, err error) {
	all = []Function{}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			f, err := scanFunction(rows)
			all = append(all, f)
			return err
		}, functionColumns+` ORDER BY name`)
	})
	return all, wrap("listing functions", err)
}

// versions are a function's, the latest first.
func (s *shelf) versions(ctx context.Context, name string) (all []Version, err error) {
	all = []Version{}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var v Version
			var hash []byte
			var created int64
			if err := rows.Scan(&v.Version, &hash, &v.Size, &created); err != nil {
				return err
			}
			v.SHA256, v.CreatedAt = Hash(hash).String(), time.UnixMilli(created).UTC()
			all = append(all, v)
			return nil
		}, `SELECT version, hash, size, created_at FROM versions WHERE name = ? ORDER BY version DESC`, name)
	})
	return all, wrap("listing versions", err)
}

// callable is what a call needs to know of a function.
type callable struct {
	Function
	secrets map[string]string
	hash    Hash
}

// callable is kept in memory until something of a function changes, so that a
// call asks no database. Errors are ErrNotFound and ErrVersion.
func (s *shelf) callable(ctx context.Context, name string) (callable, error) {
	s.mu.Lock()
	c, known := s.known[name]
	generation := s.generation
	s.mu.Unlock()
	if known {
		return c, nil
	}
	var err error
	if c.Function, c.secrets, err = s.get(ctx, name); err != nil {
		return c, err
	}
	if c.hash, err = s.hash(ctx, name, c.Version); err != nil {
		return c, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == generation {
		s.known[name] = c
	}
	return c, nil
}

// update is a change, after which nothing that was known is.
func (s *shelf) update(ctx context.Context, by func(context.Context, func(*store.Tx) error) error, f func(*store.Tx) error) error {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.generation++
		clear(s.known)
	}()
	return by(ctx, f)
}

// hash is the module's of a version. The error is ErrVersion where it is gone.
func (s *shelf) hash(ctx context.Context, name string, version int64) (h Hash, err error) {
	var b []byte
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT hash FROM versions WHERE name = ? AND version = ?`, name, version).Scan(&b)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return h, ErrVersion
	}
	copy(h[:], b)
	return h, wrap("reading a version", err)
}

// module is the bytes of one.
func (s *shelf) module(ctx context.Context, h Hash) (b []byte, err error) {
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow(`SELECT module FROM versions WHERE hash = ? LIMIT 1`, h[:]).Scan(&b)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrVersion
	}
	return b, wrap("reading a module", err)
}

// hashes are of every module that is kept.
func (s *shelf) hashes(ctx context.Context) (all map[Hash]bool, err error) {
	all = map[Hash]bool{}
	err = s.db.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var b []byte
			if err := rows.Scan(&b); err != nil {
				return err
			}
			all[Hash(b)] = true
			return nil
		}, `SELECT DISTINCT hash FROM versions`)
	})
	return all, wrap("listing modules", err)
}
