package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// What is deleted is in no file once it is erased, whatever was kept around it.
func TestDeletedIsErased(t *testing.T) {
	dir := t.TempDir()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	db, err := d.Open(t.Context(), Schema{Name: "secrets", SecureDelete: true, Migrations: []Migration{
		Statements("CREATE TABLE secrets (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	random := rand.New(rand.NewPCG(1, 2))
	update := func(f func(*Tx) error) {
		t.Helper()
		if err := db.Update(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	const marker = "EraseThisOfMine"
	for round := range 20 {
		for range 10 {
			update(func(tx *Tx) error {
				for range 20 {
					// Some are longer than a page.
					name := fmt.Sprintf("%s-%d-%d", marker, round, random.Uint64())
					if _, err := tx.Exec("INSERT INTO secrets (name, body) VALUES (?, ?)", name, name+string(bytes.Repeat([]byte("x"), random.IntN(9000)))+marker); err != nil {
						return err
					}
					if _, err := tx.Exec("INSERT INTO secrets (name, body) VALUES (?, 'kept')", fmt.Sprint(random.Uint64())); err != nil {
						return err
					}
				}
				return nil
			})
		}
		update(func(tx *Tx) error {
			_, err := tx.Exec("DELETE FROM secrets WHERE name LIKE ?", marker+"%")
			return err
		})
		if err := db.Erase(t.Context()); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) < 3 {
			t.Fatal(files, err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := bytes.Count(b, []byte(marker)); n > 0 {
				t.Fatalf("round %d: %s has it %d times", round, path, n)
			}
		}
	}
}

// What somebody still reads is not said to be erased.
func TestEraseWhileRead(t *testing.T) {
	db := openAt(t, t.TempDir())
	if err := insert(db, "a", 1); err != nil {
		t.Fatal(err)
	}
	err := db.View(t.Context(), func(tx *Tx) error {
		return tx.Each(func(*sql.Rows) error {
			if err := insert(db, "b", 2); err != nil {
				return err
			}
			if err := db.Erase(t.Context()); !errors.Is(err, ErrBusy) {
				t.Errorf("while it is read: %v", err)
			}
			return nil
		}, "SELECT n FROM things")
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Erase(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if info, err := os.Stat(db.log()); err != nil || info.Size() != 0 {
		t.Errorf("%v, error %v", info, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.Erase(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
