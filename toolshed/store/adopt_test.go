package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A file takes a database's place only where it could be opened there.
func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	db := openAt(t, dir)
	if err := insert(db, "colour", 1); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(dir, "good")
	if err := db.Backup(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Adopt(t.Context(), good); err != nil {
		t.Errorf("its own backup: %v", err)
	}
	old := filepath.Join(dir, "empty")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := db.Adopt(t.Context(), old); err != nil {
		t.Errorf("an older form: %v", err)
	}
	for name, b := range map[string][]byte{"text": []byte("a text that is no database"), "cut": whole[:len(whole)-4096]} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := db.Adopt(t.Context(), path); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	db.schema.Migrations = nil
	if err := db.Adopt(t.Context(), good); !errors.Is(err, ErrUnfit) || !errors.Is(err, ErrNewer) {
		t.Errorf("a newer form: %v", err)
	}
}
