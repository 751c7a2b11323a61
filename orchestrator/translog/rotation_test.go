package translog_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
)

// entries are what stands in the log's tiles, as far as it is shown.
func (w *world) entries() (all []*logentry.Entry) {
	w.t.Helper()
	fetch := func(_ context.Context, path string) ([]byte, error) {
		return os.ReadFile(filepath.Join(w.dir, "tiles", path))
	}
	for record, err := range logtiles.Entries(w.t.Context(), fetch, 0, w.log.Status().Size) {
		if err != nil {
			w.t.Fatal(err)
		}
		e, err := logentry.Parse(record)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// meeting is randomness that keeps whoever draws until another draws too, or for
// a while where nobody does.
type meeting struct{ drawing atomic.Int32 }

func (m *meeting) Read(b []byte) (int, error) {
	m.drawing.Add(1)
	defer m.drawing.Add(-1)
	for range 1 << 16 {
		if m.drawing.Load() > 1 {
			break
		}
		runtime.Gosched()
	}
	return rand.Read(b)
}

// Rotations that come at once follow one another, and no key that was drawn is
// lost: a client follows each from the key that it knows.
func TestRotationsAtOnce(t *testing.T) {
	w := newWorld(t)
	first := w.log.Key()
	const times = checkpoint.MaxSigners - 1
	var all sync.WaitGroup
	met := &meeting{}
	for range times {
		all.Go(func() {
			if _, err := w.log.RotateKey(t.Context(), met); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.log.Witnessed(ctx, times-1); err != nil {
		t.Fatal(err)
	}
	known := first.String()
	for index, e := range w.entries() {
		if string(e.Body.Rotation.Old) != known {
			t.Errorf("index %d rotates %s, want %s", index, e.Body.Rotation.Old, known)
		}
		known = string(e.Body.Rotation.New)
	}
	keys := w.keys()
	if len(keys) != checkpoint.MaxSigners || keys[0].String() != known || keys[len(keys)-1].Key != first {
		t.Errorf("%d keys are kept, the newest %s, want %s", len(keys), keys[0].Key, known)
	}
	if _, err := w.log.RotateKey(t.Context(), rand.Reader); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("a key more than sign at once: %v", err)
	}
	info, err := os.Stat(filepath.Join(w.dir, translog.KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keys have mode %v, %v", info.Mode(), err)
	}
}

// Rotations that a stop came before stand in the log once it runs again, in the
// order that they followed one another in.
func TestRotationIsAnnouncedAfterAStop(t *testing.T) {
	w := newWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1).Entry)
	w.close()
	// What RotateKey writes before it says so, twice.
	first := w.keys()[0]
	second, third := logtest.New(t, 0).NewSigner(checkpoint.KindLog, origin), logtest.New(t, 0).NewSigner(checkpoint.KindLog, origin)
	text := third.Encode() + second.Encode() + first.Encode()
	if err := os.WriteFile(filepath.Join(w.dir, translog.KeyFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	ctx, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	if err := w.log.Witnessed(ctx, 2); err != nil {
		t.Fatal(err)
	}
	for n, keys := range [][2]*checkpoint.Signer{{first, second}, {second, third}} {
		r := w.entries()[1+n].Body.Rotation
		if r == nil || string(r.Old) != keys[0].String() || string(r.New) != keys[1].String() {
			t.Errorf("rotation %d is %+v", n, r)
		}
	}
}
