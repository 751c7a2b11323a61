package translog_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/witness"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
	"github.com/toolshed-cloud/shed/orchestrator/translog/translogtest"
)

const origin = "shed.test/log"

// world is a real log with two real witnesses on loopback.
type world struct {
	t         *testing.T
	dir       string
	key       logtest.ReleaseKey
	witnesses []*httptest.Server
	options   translog.Options
	log       *translog.Log
	cancel    context.CancelFunc
	done      chan error
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: translogtest.TempDir(t), key: logtest.NewReleaseKey(t)}
	if err := translog.DrawKey(w.dir, origin, rand.Reader); err != nil {
		t.Fatal(err)
	}
	w.options = translog.Options{
		Dir: w.dir, Quorum: 2, ReleaseKey: w.key.Public(), Interval: 100 * time.Millisecond, Refresh: time.Hour,
		Logger: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)),
	}
	for _, name := range []string{"w1.test", "w2.test"} {
		w.witness(name, w.keys()[0].Key)
	}
	w.open()
	return w
}

func (w *world) keys() []*checkpoint.Signer {
	w.t.Helper()
	keys, err := translog.LoadKeys(w.dir, origin)
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

func (w *world) witness(name string, logs ...checkpoint.Key) {
	w.t.Helper()
	dir := w.t.TempDir()
	signer, err := witness.LoadKey(dir, name, rand.Reader, time.Now)
	if err != nil {
		w.t.Fatal(err)
	}
	one, err := witness.Open(dir, signer, logs)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { one.Close() })
	server := httptest.NewServer(one.Handler(func(err error) { w.t.Error(err) }))
	w.t.Cleanup(server.Close)
	w.witnesses = append(w.witnesses, server)
	w.options.Witnesses = append(w.options.Witnesses, translog.Remote{URL: server.URL, Key: signer.Key})
}

func (w *world) open() {
	w.t.Helper()
	w.options.Keys = w.keys()
	var err error
	if w.log, err = translog.Open(w.t.Context(), w.options); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done = cancel, make(chan error, 1)
	go func(l *translog.Log) { w.done <- l.Run(ctx) }(w.log)
	w.t.Cleanup(w.close)
}

func (w *world) close() {
	if w.cancel == nil {
		return
	}
	w.cancel()
	w.cancel = nil
	if err := errors.Join(<-w.done, w.log.Close()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) add(entry []byte) int64 {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	index, err := w.log.Add(ctx, entry)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.log.Witnessed(ctx, index); err != nil {
		w.t.Fatal(err)
	}
	return index
}

func (w *world) policy() release.LogPolicy {
	p := release.LogPolicy{Log: w.options.Keys[len(w.options.Keys)-1].Key, Quorum: 2, MaxAge: time.Hour, TimeFloor: time.Unix(1, 0)}
	for _, r := range w.options.Witnesses {
		p.Witnesses = append(p.Witnesses, release.Witness{Key: r.Key})
	}
	return p
}

func (w *world) verify(r logtest.Release, p release.LogPolicy) (release.Logged, error) {
	w.t.Helper()
	document, err := w.log.Document(w.t.Context(), r.Digest)
	if err != nil {
		w.t.Fatal(err)
	}
	return release.VerifyLogged(r.Manifest, r.Bundle, document, []crypto.PublicKey{w.key.Public()}, p, time.Now())
}

func TestReleasesAreLogged(t *testing.T) {
	w := newWorld(t)
	first, second := logtest.NewRelease(t, w.key, 1), logtest.NewRelease(t, w.key, 2)
	if n := w.add(first.Entry); n != 0 {
		t.Errorf("the first index is %d", n)
	}
	if n := w.add(second.Entry); n != 1 {
		t.Errorf("the second index is %d", n)
	}
	if n := w.add(first.Entry); n != 0 {
		t.Errorf("added twice, it has index %d", n)
	}
	got, err := w.verify(first, w.policy())
	if err != nil || got.Log != origin || got.Size != 2 || len(got.Cosigned) != 2 {
		t.Errorf("verified %+v, %v", got, err)
	}
	if _, err := w.log.Document(t.Context(), attest.ReleaseDigest{1}); !errors.Is(err, orchestrator.ErrNotFound) {
		t.Errorf("a release that was never added: %v", err)
	}
	// Whoever runs it again finds what was there.
	w.close()
	w.open()
	third := logtest.NewRelease(t, w.key, 3)
	if n := w.add(third.Entry); n != 2 {
		t.Errorf("after a restart the index is %d", n)
	}
	if _, err := w.verify(first, w.policy()); err != nil {
		t.Error(err)
	}
}

func TestWithdrawalReachesClients(t *testing.T) {
	w := newWorld(t)
	r := logtest.NewRelease(t, w.key, 1)
	w.add(r.Entry)
	w.add(w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: logentry.ReasonVulnerable}}))
	if _, err := w.verify(r, w.policy()); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("error %v", err)
	}
}

func TestWithdrawalIsStatedOnce(t *testing.T) {
	w := newWorld(t)
	r := logtest.NewRelease(t, w.key, 1)
	w.add(r.Entry)
	index := w.add(w.withdrawal(r))
	if again := w.add(w.withdrawal(r)); again != index {
		t.Errorf("signed anew it stands at %d, and at %d", again, index)
	}
	w.close()
	w.open()
	if again := w.add(w.withdrawal(r)); again != index {
		t.Errorf("after a restart it stands at %d, and at %d", again, index)
	}
	other := logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: logentry.ReasonCompromised}}
	if added := w.add(w.key.Entry(other)); added != index+1 {
		t.Errorf("for another reason it stands at %d, want %d", added, index+1)
	}
	if added := w.add(w.withdrawal(r)); added != index+2 {
		t.Errorf("for the first reason again it stands at %d, want %d", added, index+2)
	}
	next := logtest.NewReleaseKey(t)
	w.add(w.key.Entry(logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: logentry.UseRelease, Old: w.key.DER(), New: next.DER()}}))
	if added := w.add(next.Entry(other)); added != index+4 {
		t.Errorf("by the key that took over it stands at %d, want %d", added, index+4)
	}
}

func TestForeignEntriesAreRefused(t *testing.T) {
	w := newWorld(t)
	stranger := logtest.NewReleaseKey(t)
	r := logtest.NewRelease(t, w.key, 1)
	w.add(r.Entry)
	for name, entry := range map[string][]byte{
		"release of a stranger":    logtest.NewRelease(t, stranger, 1).Entry,
		"withdrawal by a stranger": stranger.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: 1}}),
		"rotation by a stranger": stranger.Entry(logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{
			Use: logentry.UseRelease, Old: w.key.DER(), New: stranger.DER(),
		}}),
		"the release again": w.key.Entry(logentry.Body{Kind: logentry.KindRelease, Release: &r.Statement}),
		"withdrawal of nothing": w.key.Entry(logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{
			Manifest: attest.ReleaseDigest{1}, Reason: logentry.ReasonFaulty,
		}}),
		"audit head": w.key.Entry(logentry.Body{Kind: logentry.KindAuditHead, AuditHead: &logentry.AuditHead{Head: attest.Digest{1}}}),
	} {
		if _, err := w.log.Add(t.Context(), entry); !errors.Is(err, attest.ErrTransparency) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.log.Add(t.Context(), []byte("nonsense")); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("nonsense: %v", err)
	}
}

func TestRotatedKeys(t *testing.T) {
	w := newWorld(t)
	before := w.policy()
	next, err := w.log.RotateKey(t.Context(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := logtest.NewRelease(t, w.key, 1)
	w.add(r.Entry)
	got, err := w.verify(r, before)
	if err != nil || len(got.Learned.Rotations) != 1 || string(got.Learned.Rotations[0].New) != next.String() {
		t.Errorf("learned %+v, %v", got.Learned, err)
	}
	// Once witnesses and clients know the new key the old one goes.
	w.close()
	w.open()
	if w.log.Key() != next {
		t.Error("the new key is not in use after a restart")
	}
	rotated := logtest.NewReleaseKey(t)
	w.add(w.key.Entry(logentry.Body{Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: logentry.UseRelease, Old: w.key.DER(), New: rotated.DER()}}))
	if _, err := w.log.Add(t.Context(), logtest.NewRelease(t, w.key, 2).Entry); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("a release of the old release key: %v", err)
	}
	last := logtest.NewRelease(t, rotated, 3)
	w.add(last.Entry)
	if got, err := w.verify(last, before); err != nil || len(got.Learned.Rotations) != 2 {
		t.Errorf("learned %+v, %v", got.Learned, err)
	}
}

// Nothing is shown that too few witnesses have cosigned.
func TestUnwitnessed(t *testing.T) {
	w := newWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1).Entry)
	w.witnesses[1].Close()
	r := logtest.NewRelease(t, w.key, 2)
	index, err := w.log.Add(t.Context(), r.Entry)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := w.log.Witnessed(ctx, index); !errors.Is(err, translog.ErrUnwitnessed) {
		t.Errorf("error %v", err)
	}
	if _, err := w.log.Document(t.Context(), r.Digest); !errors.Is(err, orchestrator.ErrNotFound) {
		t.Errorf("it is shown all the same: %v", err)
	}
}

func TestRefreshedCosignatures(t *testing.T) {
	w := newWorld(t)
	r := logtest.NewRelease(t, w.key, 1)
	w.add(r.Entry)
	w.close()
	w.options.Refresh = time.Millisecond
	w.open()
	deadline := time.Now().Add(20 * time.Second)
	for n, last := 0, ""; n < 3; {
		document, err := w.log.Document(t.Context(), r.Digest)
		if err == nil && string(document) != last {
			n, last = n+1, string(document)
		}
		if time.Now().After(deadline) {
			t.Fatal("cosignatures are not renewed")
		}
	}
}

func TestServesTiles(t *testing.T) {
	w := newWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1).Entry)
	server := httptest.NewServer(w.log.Handler())
	t.Cleanup(server.Close)
	fetch := func(_ context.Context, path string) ([]byte, error) {
		resp, err := http.Get(server.URL + "/" + path)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, errors.New(resp.Status)
		}
		return io.ReadAll(resp.Body)
	}
	text, err := fetch(t.Context(), logtiles.CheckpointPath)
	if err != nil {
		t.Fatal(err)
	}
	head, err := checkpoint.Open(text, w.options.Keys[0].Key, []checkpoint.Key{w.options.Witnesses[0].Key, w.options.Witnesses[1].Key})
	if err != nil || len(head.Cosignatures) != 2 {
		t.Fatalf("%+v, %v", head, err)
	}
	var tree logtiles.Tree
	for entry, err := range logtiles.Entries(t.Context(), fetch, 0, head.Size) {
		if err != nil {
			t.Fatal(err)
		}
		tree.Add(entry)
	}
	if tree.Root() != head.Root {
		t.Errorf("the served entries make root %s, want %s", tree.Root(), head.Root)
	}
	for _, path := range []string{"log.key", "tile/../../log.key", ".state/treeState", "tile/0/999"} {
		if b, err := fetch(t.Context(), path); err == nil {
			t.Errorf("%s is served: %q", path, b)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1).Entry)
	if _, err := translog.Open(t.Context(), w.options); !errors.Is(err, statefile.ErrLocked) {
		t.Errorf("a second log in the directory: %v", err)
	}
	w.close()
	if err := translog.DrawKey(w.dir, origin, rand.Reader); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second key: %v", err)
	}
	if _, err := translog.LoadKeys(w.dir, "another.test/log"); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("another origin: %v", err)
	}
	for name, change := range map[string]func(*translog.Options){
		"no key":         func(o *translog.Options) { o.Keys = nil },
		"too few to ask": func(o *translog.Options) { o.Quorum = 3 },
		"less than none": func(o *translog.Options) { o.Quorum = -1 },
	} {
		o := w.options
		change(&o)
		if _, err := translog.Open(t.Context(), o); !errors.Is(err, attest.ErrPolicy) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := w.options
	dir := t.TempDir()
	if err := translog.DrawKey(dir, origin, rand.Reader); err != nil {
		t.Fatal(err)
	}
	keys, err := translog.LoadKeys(dir, origin)
	if err != nil {
		t.Fatal(err)
	}
	other.Keys = keys
	if _, err := translog.Open(t.Context(), other); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("another key: %v", err)
	}
	entries := filepath.Join(w.dir, "tiles", logtiles.EntriesPath(0, 1))
	b, err := os.ReadFile(entries)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(b), "amd64", "arm64", 1)
	if err := os.WriteFile(entries, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := translog.Open(t.Context(), w.options); !errors.Is(err, attest.ErrTransparency) {
		t.Errorf("a changed entry: %v", err)
	}
}
