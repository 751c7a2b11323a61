package kv

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Condition judges the version that a write would replace; 0 stands for a
// missing key. A nil Condition holds always.
type Condition func(current int64) bool

func (c Condition) holds(current int64) bool { return c == nil || c(current) }

// Put writes one value of at most MaxValueBytes under a key of at most
// MaxKeyBytes and answers its version. The error is ErrChanged where the
// condition does not hold, and ErrFull where the disk has no room.
func (s *Store) Put(ctx context.Context, key string, value []byte, when Condition) (version int64, err error) {
	if value == nil {
		value = []byte{}
	}
	err = s.write(ctx, len(key)+len(value), func(ctx context.Context, tx *sql.Tx) error {
		current, err := currentVersion(ctx, tx, key)
		if err != nil {
			return err
		}
		if !when.holds(current) {
			return ErrChanged
		}
		if err := tx.QueryRowContext(ctx, `UPDATE versions SET last = last + 1 RETURNING last`).Scan(&version); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
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
	err := s.write(ctx, deletes, func(ctx context.Context, tx *sql.Tx) error {
		current, err := currentVersion(ctx, tx, key)
		if err != nil {
			return err
		}
		if current == 0 {
			return ErrNotFound
		}
		if !when.holds(current) {
			return ErrChanged
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM kv WHERE key = ?`, key)
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting a key: %w", err)
	}
	return nil
}

// currentVersion is 0 where the key is missing.
func currentVersion(ctx context.Context, tx *sql.Tx, key string) (version int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT version FROM kv WHERE key = ?`, key).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return version, err
}

// change is what one transaction does.
type change func(context.Context, *sql.Tx) error

// deletes is the size of a change that makes the database no larger.
const deletes = 0

// write commits a change that adds so many bytes. The one connection makes
// writers wait for one another.
func (s *Store) write(ctx context.Context, bytes int, do change) error {
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // gives it back to the pool
	ample, err := s.room.ample(bytes)
	if err != nil {
		return err
	}
	if ample {
		// Somebody else on the disk may still be faster.
		if err := commit(ctx, conn, do); !isFull(err) {
			return err
		}
	}
	return s.writeFull(context.WithoutCancel(ctx), conn, bytes, do)
}

// writeFull commits a change on a full disk, in the room that is kept: first
// the log is emptied, then the change is made, and the log emptied again. What
// would leave less than the kept room is ErrFull; what fits into the pages that
// deleting left free always passes.
func (s *Store) writeFull(ctx context.Context, conn *sql.Conn, bytes int, do change) (err error) {
	if err := s.room.release(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.room.take()) }()
	checkpoint(ctx, conn)
	free, err := s.room.free()
	if err != nil {
		return err
	}
	err = commit(ctx, conn, func(ctx context.Context, tx *sql.Tx) error {
		before, err := databaseBytes(ctx, tx)
		if err != nil {
			return err
		}
		if err := do(ctx, tx); err != nil || bytes == deletes {
			return err
		}
		after, err := databaseBytes(ctx, tx)
		if err == nil && after > before && free-(after-before) < keptBytes {
			err = ErrFull
		}
		return err
	})
	if isFull(err) {
		return fmt.Errorf("%w: %d bytes are left, of which %d are kept for deleting", ErrFull, free, keptBytes)
	}
	if err == nil {
		checkpoint(ctx, conn)
	}
	return err
}

func databaseBytes(ctx context.Context, tx *sql.Tx) (bytes int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`).Scan(&bytes)
	return bytes, err
}

// checkpoint moves the log into the database and empties it. Where it cannot,
// nothing is lost: the log is as durable, and the next one tries again.
func checkpoint(ctx context.Context, conn *sql.Conn) {
	_, _ = conn.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
}

func commit(ctx context.Context, conn *sql.Conn, do change) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(ctx, tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// isFull reports whether SQLite found no room on the disk.
func isFull(err error) bool {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()&0xff == sqlite3.SQLITE_FULL || e.Code() == sqlite3.SQLITE_IOERR_SHMSIZE
	}
	return errors.Is(err, ErrFull)
}
