package store

import (
	"errors"
	"testing"
)

// A commit that fails is told to all who shared it, leaves nothing, and is no
// matter to the next.
func TestFailedCommit(t *testing.T) {
	d, err := OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// SQLite judges such a reference when it commits.
	db, err := d.Open(t.Context(), Schema{Name: "deferred", Migrations: []Migration{Statements(
		"CREATE TABLE things (name TEXT PRIMARY KEY, of TEXT REFERENCES things (name) DEFERRABLE INITIALLY DEFERRED) STRICT")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	}()
	put := func(name, of string) error {
		return db.Update(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO things VALUES (?, ?)", name, of)
			return err
		})
	}
	for _, of := range []string{"nobody", "nobody"} {
		if err := put("a", of); err == nil {
			t.Error("a commit that failed is said to be done")
		}
		if n := count(t, db); n != 0 {
			t.Errorf("%d rows are left of it", n)
		}
	}
	if err := put("a", "a"); err != nil || count(t, db) != 1 {
		t.Errorf("the next: %v", err)
	}
}
