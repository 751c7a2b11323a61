package store

import (
	"context"
	"errors"
	"fmt"
)

// rewrittenInMemory is the size of a database up to which its copy stays in
// memory while it is rewritten; that of a larger one is a temporary file.
const rewrittenInMemory = 32 << 20

// erase rewrites the database and empties the log.
func (w *writer) erase() error {
	w.take()
	defer w.pass()
	if w.open != nil {
		w.end()
	}
	bytes, err := size(&Tx{conn: w.conn, ctx: context.Background()})
	if err != nil {
		return err
	}
	// SQLite obeys these when it reads them, so they are not kept prepared.
	run := func(text string) error {
		_, err := w.conn.raw.ExecContext(context.Background(), text)
		return err
	}
	place := "PRAGMA temp_store = MEMORY"
	if bytes > rewrittenInMemory {
		place = "PRAGMA temp_store = FILE"
	}
	if err := errors.Join(run(place), run("VACUUM"), run("PRAGMA temp_store = DEFAULT")); err != nil {
		return fmt.Errorf("rewriting the database: %w", err)
	}
	var busy, pages, moved int64
	err = w.conn.raw.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	if err == nil && busy != 0 {
		err = ErrBusy
	}
	return err
}
