package kv

import (
	"path/filepath"
	"testing"
	"time"
)

// A commit is answered when it is on disk, in the log: SQLite calls that
// synchronous = 2 in WAL mode.
func TestCommitsAreSynced(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "kv.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var synchronous int
	var journal string
	row := s.writer.QueryRowContext(t.Context(), `SELECT synchronous, journal_mode FROM pragma_synchronous, pragma_journal_mode`)
	if err := row.Scan(&synchronous, &journal); err != nil || synchronous != 2 || journal != "wal" {
		t.Errorf("synchronous %d, journal %s, %v", synchronous, journal, err)
	}
	if _, err := s.readers.ExecContext(t.Context(), `DELETE FROM kv`); err == nil {
		t.Error("a reader's connection writes")
	}
}
