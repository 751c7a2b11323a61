package translog_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logproof"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
)

// put adds an entry and does not wait for the witnesses.
func (w *world) put(entry []byte) int64 {
	w.t.Helper()
	index, err := w.log.Add(w.t.Context(), entry)
	if err != nil {
		w.t.Fatal(err)
	}
	return index
}

func (w *world) withdrawal(r logtest.Release) []byte {
	return w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: logentry.ReasonVulnerable}})
}

// beside are the indices of what a release's document shows beside it.
func (w *world) beside(r logtest.Release) (all []int64) {
	w.t.Helper()
	document, err := w.log.Document(w.t.Context(), r.Digest)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := logproof.ParseDocument(document)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range d.Beside {
		all = append(all, p.Index)
	}
	return all
}

// Where there are more withdrawals than a document holds, a release's own is
// shown before all others, and of those the latest.
func TestDocumentHoldsWhatMattersMost(t *testing.T) {
	w := newWorld(t)
	const more = logproof.MaxBeside + 1
	var releases []logtest.Release
	for epoch := range uint64(more + 1) {
		releases = append(releases, logtest.NewRelease(t, w.key, epoch+1))
		w.put(releases[epoch].Entry)
	}
	var withdrawn []int64
	for _, r := range releases[:more] {
		withdrawn = append(withdrawn, w.put(w.withdrawal(r)))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := w.log.Witnessed(ctx, withdrawn[more-1]); err != nil {
		t.Fatal(err)
	}
	if got := w.beside(releases[more]); !slices.Equal(got, withdrawn[1:]) {
		t.Errorf("beside a release that stands: %v, want %v", got, withdrawn[1:])
	}
	if got, want := w.beside(releases[0]), append(withdrawn[:1:1], withdrawn[2:]...); !slices.Equal(got, want) {
		t.Errorf("beside the first that was withdrawn: %v, want %v", got, want)
	}
}

// What too few witnesses have cosigned is not shown, and keeps nothing else
// from being shown.
func TestUnwitnessedWithdrawal(t *testing.T) {
	w := newWorld(t)
	r := logtest.NewRelease(t, w.key, 1)
	w.add(r.Entry)
	w.witnesses[1].Close()
	w.put(w.withdrawal(r))
	if got := w.beside(r); len(got) != 0 {
		t.Errorf("beside the release: %v", got)
	}
}

// A log that no quorum has cosigned yet serves no checkpoint, and of its files
// those alone that are tiles.
func TestServesWhatIsShown(t *testing.T) {
	w := newWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1).Entry)
	w.close()
	for _, witness := range w.witnesses {
		witness.Close()
	}
	w.open()
	server := httptest.NewServer(w.log.Handler())
	t.Cleanup(server.Close)
	if err := os.WriteFile(filepath.Join(w.dir, "tiles", "tile", "0", "unfinished"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		logtiles.CheckpointPath: http.StatusServiceUnavailable, "tile/0/unfinished": http.StatusNotFound, "tile/0": http.StatusNotFound,
	} {
		resp, err := http.Get(server.URL + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
	}
}

// What stands in the tiles and was not yet in a checkpoint when the log stopped
// is in the log all the same.
func TestStopBeforeTheCheckpoint(t *testing.T) {
	w := newWorld(t)
	w.close()
	w.options.Interval = 2 * time.Second
	w.open()
	r := logtest.NewRelease(t, w.key, 1)
	index := w.put(r.Entry)
	w.close()
	w.options.Interval = 100 * time.Millisecond
	w.open()
	again := w.key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &r.Statement})
	if _, err := w.log.Add(t.Context(), again); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("the release again: %v", err)
	}
	if n := w.add(r.Entry); n != index {
		t.Errorf("the entry again has index %d, want %d", n, index)
	}
}
