package kv

import (
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unicode/utf8"
)

// The statements of the first toolshed, which had no formats.
const format0 = `
PRAGMA journal_mode = wal;
CREATE TABLE IF NOT EXISTS kv (
	key        TEXT PRIMARY KEY,
	value      BLOB NOT NULL,
	version    INTEGER NOT NULL,
	updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO kv VALUES
	('colour', x'677265656e', 7, 1790000000000),
	('empty', x'', 1, 1790000000001),
	(CAST(x'61ff' AS TEXT), x'31', 2, 1790000000002),
	(CAST(x'61fe' AS TEXT), x'32', 3, 1790000000003);`

func openFormat0(t *testing.T) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kv.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(format0); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Twice: what was migrated opens again.
	for range 2 {
		s, err := Open(t.Context(), path, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.Context(), path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A database of the first format opens with all that it held.
func TestFormat0(t *testing.T) {
	s := openFormat0(t)
	e, err := s.Get(t.Context(), "colour")
	if err != nil || string(e.Value) != "green" || e.Version != 7 || e.UpdatedAt.UnixMilli() != 1790000000000 {
		t.Errorf("%+v, %v", e, err)
	}
	entries, more, err := s.List(t.Context(), "", "", MaxPage)
	if err != nil || more || len(entries) != 4 {
		t.Fatalf("%d keys, more %t, %v", len(entries), more, err)
	}
	var values []string
	for _, e := range entries {
		if !utf8.ValidString(e.Key) || len(e.Key) > MaxKeyBytes {
			t.Errorf("key %q cannot be asked for", e.Key)
		}
		e, err := s.Get(t.Context(), e.Key)
		if err != nil {
			t.Error(err)
		}
		values = append(values, string(e.Value))
	}
	if slices.Sort(values); !slices.Equal(values, []string{"", "1", "2", "green"}) {
		t.Errorf("values %q", values)
	}
	// What a deleted key of that format had is not given out again.
	version, err := s.Put(t.Context(), "fresh", nil, nil)
	if err != nil || version <= firstAfterMigration {
		t.Errorf("version %d, %v", version, err)
	}
}

func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kv.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`PRAGMA user_version = 2`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Open(t.Context(), path, time.Now); !errors.Is(err, ErrNewer) {
		t.Errorf("opened: %v", err)
	}
}
