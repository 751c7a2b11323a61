package kv

import (
	"database/sql"
	"fmt"

	"github.com/toolshed-cloud/shed/toolshed/kv/key"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "kv", Migrations: []store.Migration{store.Statements(`
	CREATE TABLE kv (
		key        TEXT PRIMARY KEY,
		value      BLOB NOT NULL,
		version    INTEGER NOT NULL,
		updated_at INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	CREATE TABLE versions (
		last INTEGER NOT NULL
	) STRICT;
	INSERT INTO versions VALUES (0)`), typedKeys}}

// typedKeys is the second form. What had a text for its key has a key of one
// string, and what were bytes are bytes.
func typedKeys(tx *store.Tx) error {
	err := store.Statements(`
		CREATE TABLE entries (
			key        BLOB PRIMARY KEY,
			value      BLOB NOT NULL,
			encoding   INTEGER NOT NULL,
			version    INTEGER NOT NULL,
			updated_at INTEGER NOT NULL,
			expires_at INTEGER NOT NULL
		) STRICT, WITHOUT ROWID;
		CREATE INDEX expiring ON entries (expires_at) WHERE expires_at < 9223372036854775807;
		CREATE TABLE outbox (
			id          INTEGER PRIMARY KEY AUTOINCREMENT,
			payload     BLOB NOT NULL,
			due_at      INTEGER NOT NULL,
			backoff     TEXT NOT NULL,
			undelivered TEXT NOT NULL
		) STRICT;
		CREATE TABLE identity (
			id BLOB NOT NULL
		) STRICT;
		INSERT INTO identity VALUES (randomblob(16))`)(tx)
	if err != nil {
		return err
	}
	for moved := ""; ; {
		text, ok, err := moveNext(tx, moved)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		moved = text
	}
	return store.Statements(`DROP TABLE kv`)(tx)
}

// moveNext moves the first text key after the given one, so that what it leaves
// is room for the next. Keys of the first form were UTF-8 and not empty.
func moveNext(tx *store.Tx, after string) (text string, ok bool, err error) {
	var value []byte
	var version, at int64
	err = tx.Each(func(rows *sql.Rows) error {
		ok = true
		return rows.Scan(&text, &value, &version, &at)
	}, "SELECT key, value, version, updated_at FROM kv WHERE key > ? ORDER BY key LIMIT 1", after)
	if err != nil || !ok {
		return "", false, err
	}
	encoded, err := key.Of(text).Encode()
	if err != nil {
		return "", false, fmt.Errorf("moving a key: %w", err)
	}
	if value == nil {
		value = []byte{}
	}
	if _, err := tx.Exec("DELETE FROM kv WHERE key = ?", text); err != nil {
		return "", false, err
	}
	_, err = tx.Exec("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?)", encoded, value, Bytes, version, at, int64(never))
	return text, true, err
}
