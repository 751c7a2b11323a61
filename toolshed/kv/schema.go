package kv

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// format is the present form of the database, in its user_version.
const format = 1

const tables = `
CREATE TABLE IF NOT EXISTS kv (
	key        TEXT PRIMARY KEY,
	value      BLOB NOT NULL,
	version    INTEGER NOT NULL,
	updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE versions (
	last INTEGER NOT NULL
) STRICT;`

// firstAfterMigration is above every version of format 0, which counted the
// writes of each key and began anew after a delete: what it gave out and
// forgot must not come again. It is exact in JSON's numbers.
const firstAfterMigration = 1 << 40

// ErrNewer says that a later toolshed made the database.
var ErrNewer = errors.New("the database has a newer format")

// migrate brings a database of any earlier format to the present one, and
// makes the tables of a new one.
func migrate(ctx context.Context, tx *sql.Tx) error {
	var found, tablesFound int
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&found); err != nil {
		return fmt.Errorf("reading the format: %w", err)
	}
	switch {
	case found == format:
		return nil
	case found > format:
		return fmt.Errorf("%w: %d, this toolshed knows %d", ErrNewer, found, format)
	}
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE name = 'kv'`).Scan(&tablesFound); err != nil {
		return fmt.Errorf("reading the schema: %w", err)
	}
	last := 0
	if tablesFound > 0 {
		last = firstAfterMigration
		if err := renameNonUTF8(ctx, tx); err != nil {
			return fmt.Errorf("renaming keys that are not UTF-8: %w", err)
		}
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`%s INSERT INTO versions VALUES (%d); PRAGMA user_version = %d`, tables, last, format))
	if err != nil {
		return fmt.Errorf("making the tables: %w", err)
	}
	return nil
}

// renameNonUTF8 gives a name that can be asked for to each key of format 0,
// which took any bytes, that has none.
func renameNonUTF8(ctx context.Context, tx *sql.Tx) error {
	keys, err := nonUTF8(ctx, tx)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if _, err := tx.ExecContext(ctx, `UPDATE kv SET key = ? WHERE key = ?`, renamed(key), key); err != nil {
			return err
		}
	}
	return nil
}

func nonUTF8(ctx context.Context, tx *sql.Tx) ([]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT key FROM kv`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		if !utf8.ValidString(key) {
			keys = append(keys, key)
		}
	}
	return keys, rows.Err()
}

// renamed is the key with ? for what is not UTF-8, and a digest of the whole
// so that no two become one.
func renamed(key string) string {
	digest := fmt.Sprintf("#%x", sha256.Sum256([]byte(key)))
	return strings.ToValidUTF8(key[:min(len(key), MaxKeyBytes-len(digest))], "?") + digest
}
