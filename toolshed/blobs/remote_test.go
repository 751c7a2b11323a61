package blobs

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// shelf is a backing store in memory, which fails where it is told to.
type shelf struct {
	objects map[string][]byte
	gets    int
	fails   error
	// puts, where there is one, lets each Put go on.
	puts chan struct{}
}

var _ Remote = (*shelf)(nil)

func (s *shelf) Put(_ context.Context, name string, body io.Reader, _ int64) error {
	if s.puts != nil {
		<-s.puts
	}
	b, err := io.ReadAll(body)
	s.objects[name] = b
	return errors.Join(err, s.fails)
}

func (s *shelf) Get(_ context.Context, name string) (io.ReadCloser, error) {
	s.gets++
	b, ok := s.objects[name]
	if !ok {
		return nil, ErrLost
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (s *shelf) Delete(_ context.Context, name string) error {
	delete(s.objects, name)
	return nil
}

type place struct {
	*Store
	shelf *shelf
	dir   string
	now   time.Time
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{shelf: &shelf{objects: map[string][]byte{}}, dir: t.TempDir(), now: time.Unix(1_000_000, 0)}
	d, err := store.OpenDirectory(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	db, err := d.Open(t.Context(), Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(); d.Close() })
	p.Store, err = New(Options{
		DB: db, Now: func() time.Time { return p.now }, Random: rand.Reader, Path: d.Path, Quota: 1 << 20, Lifetime: time.Hour,
		Remote: p.shelf, CacheBytes: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *place) files(t *testing.T) (n int) {
	t.Helper()
	for _, folder := range []string{Folder, partsFolder} {
		err := filepath.Walk(filepath.Join(p.dir, folder), func(_ string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() {
				n++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (p *place) add(t *testing.T, content string) Blob {
	t.Helper()
	b, err := p.Add(t.Context(), strings.NewReader(content), int64(len(content)), "image/png", "")
	if err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(time.Second)
	return b
}

func (p *place) sweep(t *testing.T) Swept {
	t.Helper()
	done, err := p.Sweep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// Two who send the same file at once both have it kept, once: the second waits
// for the first, and what is seen of neither is in anybody's way.
func TestSameFileAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlace(t)
		p.shelf.puts = make(chan struct{})
		content := strings.Repeat("same", 100)
		added := make(chan error)
		for range 2 {
			go func() {
				_, err := p.Add(context.Background(), strings.NewReader(content), int64(len(content)), "image/png", "")
				added <- err
			}()
		}
		// One is putting the object, and the other has nothing to put.
		synctest.Wait()
		p.shelf.puts <- struct{}{}
		for range 2 {
			if err := <-added; err != nil {
				t.Error(err)
			}
		}
		if all, err := p.List(t.Context(), Page{}, 10); err != nil || len(all) != 1 {
			t.Errorf("%d blobs, %v", len(all), err)
		}
		if len(p.busy) != 0 || len(p.changed) != 0 {
			t.Errorf("left: %v, %v", p.busy, p.changed)
		}
	})
}

// A blob whose file cannot have its name has no row, and one whose row cannot be
// written leaves no file.
func TestFileAndRowComeTogether(t *testing.T) {
	p := newPlace(t)
	p.Remote = nil
	content := "one of both"
	hash := Hash(sha256.Sum256([]byte(content)))
	add := func() error {
		_, err := p.Add(t.Context(), strings.NewReader(content), int64(len(content)), "image/png", "")
		return err
	}
	inTheWay := filepath.Join(p.dir, Folder, hash.String()[:2])
	if err := os.WriteFile(inTheWay, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := add()
	if _, there := p.Get(t.Context(), hash); err == nil || !errors.Is(there, ErrNotFound) {
		t.Errorf("%v, and the row: %v", err, there)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := p.DB.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("DROP TABLE doubts")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := add(); err == nil || p.files(t) != 0 {
		t.Errorf("%v, %d files are left", err, p.files(t))
	}
}

// An upload whose file has less than had arrived is lost, and becomes no blob
// that is of zeros in part.
func TestLostPart(t *testing.T) {
	p := newPlace(t)
	for name, wait := range map[string]func(){
		"with its sums in memory": func() {},
		"without":                 func() { clear(p.hashing) },
	} {
		u, err := p.Create(t.Context(), Upload{Length: 2000, MediaType: "image/png"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Append(t.Context(), u.ID, 0, strings.NewReader(strings.Repeat("x", 1000)), nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(p.part(u.ID), 999); err != nil {
			t.Fatal(err)
		}
		wait()
		if _, err := p.Append(t.Context(), u.ID, 1000, strings.NewReader(strings.Repeat("x", 1000)), nil); !errors.Is(err, ErrLost) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if all, err := p.List(t.Context(), Page{}, 10); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	if done := p.sweep(t); done.Expired != 2 || p.files(t) != 0 {
		t.Errorf("%+v, %d files", done, p.files(t))
	}
}

// What was used longest ago leaves the cache, and comes back when it is read;
// what comes back as something else is refused.
func TestCache(t *testing.T) {
	p := newPlace(t)
	first, second := p.add(t, strings.Repeat("a", 600)), p.add(t, strings.Repeat("b", 600))
	for _, b := range []Blob{first, second} {
		// Files of this test have the clock's time, not the test's.
		if err := os.Chtimes(p.file(b), b.CreatedAt, b.CreatedAt); err != nil {
			t.Fatal(err)
		}
	}
	p.sweep(t)
	if n := p.files(t); n != 1 {
		t.Fatalf("%d files are here", n)
	}
	c, err := p.Open(t.Context(), first)
	if err != nil || check(c, first) != nil || p.shelf.gets != 1 {
		t.Fatalf("%v, %d gets", err, p.shelf.gets)
	}
	c.Close()
	if n := p.files(t); n != 1 {
		t.Errorf("%d files are here", n)
	}
	p.shelf.objects[second.SHA256.String()] = bytes.Repeat([]byte("x"), 600)
	if _, err := p.Open(t.Context(), second); !errors.Is(err, ErrRemote) {
		t.Errorf("another content: %v", err)
	}
	if n := p.files(t); n != 1 {
		t.Errorf("%d files are here", n)
	}
}

// An object whose blob never came is removed, and the upload becomes one later.
func TestDoubts(t *testing.T) {
	p := newPlace(t)
	u, err := p.Create(t.Context(), Upload{Length: 3, MediaType: unknownType})
	if err != nil {
		t.Fatal(err)
	}
	p.shelf.fails = errors.New("it hangs up after it has everything")
	if _, err := p.Append(t.Context(), u.ID, 0, strings.NewReader("abc"), nil); !errors.Is(err, ErrRemote) {
		t.Fatal(err)
	}
	p.shelf.fails = nil
	if done := p.sweep(t); done.Finished != 1 || len(p.shelf.objects) != 1 {
		t.Errorf("%+v, %d objects", done, len(p.shelf.objects))
	}
	if u, err = p.Create(t.Context(), Upload{Length: 4, MediaType: unknownType}); err != nil {
		t.Fatal(err)
	}
	p.shelf.fails = errors.New("again")
	if _, err := p.Append(t.Context(), u.ID, 0, strings.NewReader("abcd"), nil); !errors.Is(err, ErrRemote) {
		t.Fatal(err)
	}
	p.shelf.fails = nil
	if err := p.Terminate(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if done := p.sweep(t); done.Objects != 1 || len(p.shelf.objects) != 1 {
		t.Errorf("%+v, %d objects", done, len(p.shelf.objects))
	}
}

// An upload that nobody goes on with ends, and leaves nothing.
func TestExpiry(t *testing.T) {
	p := newPlace(t)
	u, err := p.Create(t.Context(), Upload{Length: 100, MediaType: unknownType})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(t.Context(), u.ID, 0, strings.NewReader("abc"), nil); err != nil {
		t.Fatal(err)
	}
	p.now = p.now.Add(2 * time.Hour)
	if _, err := p.Append(t.Context(), u.ID, 3, strings.NewReader("def"), nil); !errors.Is(err, ErrNoUpload) {
		t.Errorf("after its end: %v", err)
	}
	if done := p.sweep(t); done.Expired != 1 || p.files(t) != 0 {
		t.Errorf("%+v, %d files", done, p.files(t))
	}
}
