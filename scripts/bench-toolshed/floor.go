package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver of the store

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// floor is SQLite by its driver alone: a row a transaction.
type floor struct {
	db              *sql.DB
	insert, removal *sql.Stmt
}

func openFloor(dir string) (_ *floor, err error) {
	db, err := sql.Open("sqlite", filepath.Join(dir, "raw.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return nil, fmt.Errorf("opening SQLite: %w", err)
	}
	db.SetMaxOpenConns(1)
	f := &floor{db: db}
	_, err = db.Exec("CREATE TABLE things (name BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID")
	if err == nil {
		f.insert, err = db.Prepare("INSERT OR REPLACE INTO things VALUES (?, ?)")
	}
	if err == nil {
		f.removal, err = db.Prepare("DELETE FROM things WHERE name = ?")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing SQLite: %w", err), db.Close())
	}
	return f, nil
}

func (f *floor) write(name []byte) error {
	_, err := f.insert.Exec(name, value)
	return err
}

func (f *floor) remove(name []byte) error {
	_, err := f.removal.Exec(name)
	return err
}

// value is what is written everywhere.
var value = make([]byte, 100)

// openStore opens one of the toolshed's databases.
func openStore(dir string, s store.Schema) (*store.DB, func() error, error) {
	// As the toolshed opens it.
	s.Quota = 1 << 30
	d, err := store.OpenDirectory(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the store: %w", err)
	}
	db, err := d.Open(context.Background(), s)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("opening the store: %w", err), d.Close())
	}
	return db, func() error { return errors.Join(db.Close(), d.Close()) }, nil
}
