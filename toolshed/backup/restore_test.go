package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pretend is a database of a text.
type pretend string

func (p pretend) Backup(_ context.Context, path string) error {
	return os.WriteFile(path, []byte(p), 0o600)
}

func (p pretend) Adopt(context.Context, string) error { return nil }

func whole(t testing.TB) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "ab"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs", "ab", "cdef"), []byte("a blob"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Source{
		Dir: dir, Databases: map[string]Database{"kv.db": pretend("keys"), "queue.db": pretend("tasks")}, Folders: []string{"blobs", "none"},
		Now: func() time.Time { return time.Unix(1e9, 0) },
	}
	var b bytes.Buffer
	if err := s.WritePlain(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	return b.Bytes()
}

func anything(string) bool { return true }
func fine(string) error    { return nil }

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// hasArrived reports whether a backup waits to be put in place.
func hasArrived(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, arrived))
	return err == nil
}

// Whatever was done when the power went, the next start ends it.
func TestPutInPlaceAfterACrash(t *testing.T) {
	backup := whole(t)
	for moved := range 4 {
		dir := t.TempDir()
		for name, text := range map[string]string{"kv.db": "fresh", "kv.db-wal": "its log", "auth.db": "kept"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := Stage(t.Context(), dir, bytes.NewReader(backup), anything, fine); err != nil {
			t.Fatal(err)
		}
		if !hasArrived(dir) {
			t.Fatal("it has not arrived")
		}
		entries, err := os.ReadDir(filepath.Join(dir, arrived))
		if err != nil || len(entries) != 3 {
			t.Fatalf("%v, %v", entries, err)
		}
		for _, e := range entries[:moved] {
			if e.IsDir() {
				continue
			}
			if err := errors.Join(removed(filepath.Join(dir, e.Name()+"-wal")), os.Rename(filepath.Join(dir, arrived, e.Name()), filepath.Join(dir, e.Name()))); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := PutInPlace(dir); err != nil {
				t.Fatal(err)
			}
		}
		for name, want := range map[string]string{"kv.db": "keys", "queue.db": "tasks", "blobs/ab/cdef": "a blob", "auth.db": "kept"} {
			if got := content(t, filepath.Join(dir, name)); got != want {
				t.Errorf("after %d: %s is %q", moved, name, got)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "kv.db-wal")); !errors.Is(err, fs.ErrNotExist) || hasArrived(dir) {
			t.Errorf("after %d: the old log is there: %v", moved, err)
		}
	}
}

// One that broke off is gone at the next start.
func TestArrivingIsForgotten(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, arriving, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := PutInPlace(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestWhatIsNotRestored(t *testing.T) {
	backup := whole(t)
	for name, b := range map[string][]byte{
		"cut": backup[:700], "no manifest": entry(t, "kv.db", tar.TypeReg), "a link": entry(t, "kv.db", tar.TypeSymlink),
		"a path": entry(t, "blobs/../../x", tar.TypeReg), "the other version": bytes.Replace(backup, []byte(`"version":1`), []byte(`"version":2`), 1),
		"twice": append(entry(t, "kv.db", tar.TypeReg)[:1024], backup...),
	} {
		dir := t.TempDir()
		if err := Stage(t.Context(), dir, bytes.NewReader(b), anything, fine); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: it left %v, %v", name, left, err)
		}
	}
}

func entry(t testing.TB, name string, kind byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	h := &tar.Header{Name: name, Typeflag: kind, Mode: 0o600}
	if kind == tar.TypeReg {
		h.Size = 4
	} else {
		h.Linkname = "/etc/passwd"
	}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if kind == tar.TypeReg {
		if _, err := w.Write([]byte("keys")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A file of holes, a few bytes in the archive, is a terabyte on the disk.
func TestHolesAreRefused(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	const holes = "1\n1099511627776\n0\n"
	// The writer refuses the names of sparse files, which are put in their place.
	h := &tar.Header{Name: "kv.db", Typeflag: tar.TypeReg, Mode: 0o600, Size: 512, PAXRecords: map[string]string{
		"GNX.sparse.major": "1", "GNX.sparse.minor": "0", "GNX.sparse.realsize": "1099511627776", "GNX.sparse.name": "kv.db",
	}}
	if err := w.WriteHeader(h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(append([]byte(holes), make([]byte, 512-len(holes))...)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	archive := bytes.ReplaceAll(b.Bytes(), []byte("GNX.sparse"), []byte("GNU.sparse"))
	if h, err := tar.NewReader(bytes.NewReader(archive)).Next(); err != nil || h.Size != 1<<40 {
		t.Fatalf("it is no file of holes: %+v, %v", h, err)
	}
	if err := Stage(t.Context(), t.TempDir(), bytes.NewReader(archive), anything, fine); !errors.Is(err, ErrMalformed) {
		t.Errorf("holes: %v", err)
	}
}

func FuzzStage(f *testing.F) {
	f.Add(whole(f))
	f.Add(entry(f, "blobs/../../x", tar.TypeReg))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		data := filepath.Join(dir, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			t.Fatal(err)
		}
		err := Stage(t.Context(), data, bytes.NewReader(b), anything, fine)
		if err == nil {
			err = PutInPlace(data)
		}
		if err != nil && !errors.Is(err, ErrMalformed) {
			t.Error(err)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
			t.Errorf("it wrote elsewhere: %v, %v", all, err)
		}
	})
}
