package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Adopt brings a file that is to take the place of this database to its form,
// and sees that it can: what is put in place unseen may never open again. The
// error is ErrUnfit, beside ErrNewer where that is why, or ErrFull.
func (db *DB) Adopt(ctx context.Context, path string) (err error) {
	defer func() {
		switch {
		case isFull(err):
			err = ErrFull
		case err != nil:
			err = fmt.Errorf("%w: %w", ErrUnfit, err)
		}
	}()
	wanted, err := db.tables(ctx)
	if err != nil {
		return err
	}
	c, err := connect(ctx, path, "foreign_keys(1)", cacheSize(writerCacheKiB))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := migrate(c, db.schema.Migrations); err != nil {
		return err
	}
	return (&Tx{conn: c, ctx: ctx}).isWhole(wanted)
}

func (db *DB) tables(ctx context.Context) (names map[string]bool, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		names, err = tx.tables()
		return err
	})
	return names, err
}

func (t *Tx) tables() (map[string]bool, error) {
	names := map[string]bool{}
	err := t.Each(func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names[name] = true
		return err
	}, "SELECT sql FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'")
	return names, err
}

// isWhole sees that pages fit together, and that there are these tables.
func (t *Tx) isWhole(tables map[string]bool) error {
	var found string
	if err := t.QueryRow("PRAGMA quick_check(1)").Scan(&found); err != nil {
		return err
	}
	if found != "ok" {
		return fmt.Errorf("it is damaged: %.200s", found)
	}
	there, err := t.tables()
	if err != nil {
		return err
	}
	for table := range tables {
		if !there[table] {
			return errors.New("it lacks a table")
		}
	}
	return nil
}
