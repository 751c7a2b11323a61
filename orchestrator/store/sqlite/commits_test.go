package sqlite_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

// copyDir copies a state as a process that is killed would leave it: nothing is
// closed.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func five(t *testing.T, dir string) {
	t.Helper()
	s := open(t, dir)
	for n := range 5 {
		id := orchestrator.InstanceID(fmt.Sprintf("i%d", n))
		update(t, s, func(tx store.Tx) error { return tx.Insert(instance(string(id), string(id))) })
	}
}

// What a killed process leaves opens with all that was committed.
func TestKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	five(t, dir)
	s := open(t, copyDir(t, dir))
	all := view(t, s, func(v store.Reader) ([]orchestrator.Instance, error) { return v.Instances(store.Filter{}) })
	if len(all) != 5 {
		t.Errorf("%d of 5 rows", len(all))
	}
}

// SQLite reads a cut log as far as it goes and says nothing: the count does.
func TestCutLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	five(t, dir)
	for name, keep := range map[string]func(size int64) int64{
		"halved":          func(size int64) int64 { return size / 2 },
		"emptied":         func(int64) int64 { return 0 },
		"one frame short": func(size int64) int64 { return size - 4096 - 24 },
		"one byte short":  func(size int64) int64 { return size - 1 },
	} {
		t.Run(name, func(t *testing.T) {
			cut := copyDir(t, dir)
			wal := filepath.Join(cut, sqlite.DatabaseFile+"-wal")
			info, err := os.Stat(wal)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(wal, keep(info.Size())); err != nil {
				t.Fatal(err)
			}
			var lost *sqlite.LostCommitsError
			s, err := sqlite.Open(t.Context(), cut)
			if !errors.As(err, &lost) || lost.Have >= lost.Had {
				t.Errorf("error %v", err)
			}
			if err == nil {
				s.Close()
			}
			// A person says that this is all there is.
			if err := os.Remove(filepath.Join(cut, sqlite.CommitsFile)); err != nil {
				t.Fatal(err)
			}
			open(t, cut)
		})
	}
}

// What the state holds is for its owner alone, whatever made its files.
func TestDatabaseIsForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, sqlite.DatabaseFile), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	five(t, dir)
	// What another program left of the log is corrected too.
	left := copyDir(t, dir)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Chmod(filepath.Join(left, sqlite.DatabaseFile+suffix), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	open(t, left)
	forOwnerAlone(t, dir)
	forOwnerAlone(t, left)
}

func forOwnerAlone(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, error %v", e.Name(), info.Mode(), err)
		}
	}
}
