package kv

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A write is ample where it fits twice, in the log and in the database, with
// what stands in the log already.
func TestAmple(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kv.db")
	s, err := Open(t.Context(), path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := s.room
	if ample, err := r.ample(0); err != nil || !ample {
		t.Fatalf("nothing: %t, error %v", ample, err)
	}
	free, err := r.free()
	if err != nil {
		t.Fatal(err)
	}
	if ample, err := r.ample(int(free / 4 * 3)); err != nil || ample {
		t.Errorf("three quarters of the disk: %t, error %v", ample, err)
	}
	// A file with a hole has the size and takes no room.
	r.wal = filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(r.wal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(r.wal, free/4*5); err != nil {
		t.Fatal(err)
	}
	if ample, err := r.ample(0); err != nil || ample {
		t.Errorf("with a log larger than the disk: %t, error %v", ample, err)
	}
}
