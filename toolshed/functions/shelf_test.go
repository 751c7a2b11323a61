package functions

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

func newShelf(t testing.TB, quota int64) *shelf {
	t.Helper()
	d, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return &shelf{db: db, now: time.Now, quota: quota, known: map[string]callable{}}
}

// Of versions the last ten are kept, and whoever goes takes its module along
// unless another has the same; to what is gone nobody rolls back.
func TestVersionsAreKept(t *testing.T) {
	s := newShelf(t, 1<<20)
	if _, _, _, err := s.put(t.Context(), "other", []byte("module 1")); err != nil {
		t.Fatal(err)
	}
	gone := 0
	for i := range MaxVersions + 2 {
		version, isNew, dropped, err := s.put(t.Context(), "f", fmt.Appendf(nil, "module %d", i))
		if err != nil || version != int64(i+1) || !isNew {
			t.Fatalf("%d %t %v", version, isNew, err)
		}
		gone += len(dropped)
	}
	// Of the two that went one is the other function's too.
	if all, err := s.versions(t.Context(), "f"); err != nil || len(all) != MaxVersions || all[len(all)-1].Version != 3 || gone != 1 {
		t.Errorf("%d versions from %d on, %d modules gone, %v", len(all), all[len(all)-1].Version, gone, err)
	}
	if c, err := s.callable(t.Context(), "f"); err != nil || c.Version != MaxVersions+2 {
		t.Errorf("%d, %v", c.Version, err)
	}
	if err := s.rollback(t.Context(), "f", 2); !errors.Is(err, ErrVersion) {
		t.Errorf("to a version that is gone: %v", err)
	}
	if err := s.rollback(t.Context(), "f", 3); err != nil {
		t.Fatal(err)
	}
	if c, err := s.callable(t.Context(), "f"); err != nil || c.Version != 3 {
		t.Errorf("after rolling back: %d, %v", c.Version, err)
	}
	if version, isNew, _, err := s.put(t.Context(), "f", []byte("module 11")); err != nil || !isNew || version != MaxVersions+3 {
		t.Errorf("the module of a later version: %d %t %v", version, isNew, err)
	}
}

// The quota is of all modules, and one that is over it leaves nothing.
func TestModulesQuota(t *testing.T) {
	s := newShelf(t, 1000)
	if _, _, _, err := s.put(t.Context(), "a", []byte(strings.Repeat("a", 600))); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := s.put(t.Context(), "b", []byte(strings.Repeat("b", 401))); !errors.Is(err, ErrQuota) {
		t.Errorf("over the quota: %v", err)
	}
	if all, err := s.list(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%d functions, %v", len(all), err)
	}
	if _, _, _, err := s.put(t.Context(), "b", []byte(strings.Repeat("b", 400))); err != nil {
		t.Errorf("as much as may be: %v", err)
	}
}

// A function has keys of its own, bounded, and sees no other's.
func TestKeysAreOnesOwn(t *testing.T) {
	s := newShelf(t, 1<<20)
	for _, name := range []string{"a", "b"} {
		if _, _, _, err := s.put(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	a, b := keys{s.db, "a"}, keys{s.db, "b"}
	value := []byte(`"` + strings.Repeat("x", maxValueBytes-2) + `"`)
	version, err := a.set(t.Context(), "k", value, new(int64))
	if err != nil || version != 1 {
		t.Fatal(version, err)
	}
	if got, err := b.get(t.Context(), "k"); err != nil || got.Version != 0 || string(got.Value) != "null" {
		t.Errorf("another's key: %+v, %v", got, err)
	}
	if found, err := b.list(t.Context(), "", ""); err != nil || len(found) != 0 {
		t.Errorf("another's keys: %q, %v", found, err)
	}
	if err := b.remove(t.Context(), "k", nil); err != nil {
		t.Error(err)
	}
	if _, err := a.set(t.Context(), "k", value, new(int64)); !errors.Is(err, errChanged) {
		t.Errorf("over another version: %v", err)
	}
	for i := 1; ; i++ {
		_, err := a.set(t.Context(), fmt.Sprintf("%03d", i), value, nil)
		if err != nil {
			if kept := int64(i * maxValueBytes); !errors.Is(err, errKeysFull) || kept > maxKept || kept < maxKept-2*maxValueBytes {
				t.Errorf("after %d values: %v", i, err)
			}
			break
		}
	}
	// One that is replaced counts once.
	if _, err := a.set(t.Context(), "k", value, nil); err != nil {
		t.Errorf("replacing: %v", err)
	}
	if _, err := (keys{s.db, "gone"}).set(t.Context(), "k", value, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("of a function that is none: %v", err)
	}
}
