package witness_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/witness"
)

// bench is a witness of one log that has no witnesses of its own.
type bench struct {
	t   *testing.T
	dir string
	log *logtest.Log
	w   *witness.Witness
	url string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), log: logtest.New(t, 0)}
	b.open(b.log.Signer.Key)
	return b
}

func (b *bench) open(keys ...checkpoint.Key) {
	b.t.Helper()
	signer, err := witness.LoadKey(b.dir, "w.test.example", rand.Reader, time.Now)
	if err != nil {
		b.t.Fatal(err)
	}
	if b.w, err = witness.Open(b.dir, signer, keys); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.w.Close() })
	server := httptest.NewServer(b.w.Handler(func(err error) { b.t.Error(err) }))
	b.t.Cleanup(server.Close)
	b.url = server.URL
}

// grow adds entries and answers a request from an old size to the new head.
func (b *bench) grow(from int64, entries ...string) witness.Request {
	for _, e := range entries {
		b.log.Add([]byte(e))
	}
	r := witness.Request{Old: from, Checkpoint: b.log.Checkpoint()}
	if from > 0 && from < b.log.Head().Size {
		r.Proof = b.log.Growth(from)
	}
	return r
}

func (b *bench) post(body []byte) (status int, contentType, answer string) {
	b.t.Helper()
	resp, err := http.Post(b.url+witness.AddPath, "text/plain", bytes.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(text)
}

func TestCosignsWhatGrows(t *testing.T) {
	b := newBench(t)
	var size int64
	for _, entries := range [][]string{{"a"}, {"b", "c"}, {}, {"d"}} {
		r := b.grow(size, entries...)
		size = b.log.Head().Size
		status, _, line := b.post(r.Encode())
		if status != http.StatusOK {
			t.Fatalf("at size %d: %d %s", size, status, line)
		}
		s, err := checkpoint.Open(append(r.Checkpoint, line...), b.log.Signer.Key, []checkpoint.Key{b.w.Key()})
		if err != nil || len(s.Cosignatures) != 1 {
			t.Errorf("at size %d: %+v, %v", size, s, err)
		}
	}
}

// The answers are those of C2SP tlog-witness, "add-checkpoint".
func TestAnswers(t *testing.T) {
	stranger := logtest.New(t, 0)
	for name, c := range map[string]struct {
		request     func(*bench) []byte
		status      int
		contentType string
		answer      string
	}{
		"unknown log": {func(b *bench) []byte {
			b.log.Signer = stranger.NewSigner(checkpoint.KindLog, "unknown.example")
			return b.grow(2).Encode()
		}, http.StatusNotFound, "", ""},
		"signature of a stranger": {func(b *bench) []byte {
			b.log.Signer = stranger.Signer
			return b.grow(2).Encode()
		}, http.StatusForbidden, "", ""},
		"old size above the new": {func(b *bench) []byte { return b.grow(9).Encode() }, http.StatusBadRequest, "", ""},
		"another old size":       {func(b *bench) []byte { return b.grow(1, "x").Encode() }, http.StatusConflict, "text/x.tlog.size", "2\n"},
		"from nothing":           {func(b *bench) []byte { return b.grow(0, "x").Encode() }, http.StatusConflict, "text/x.tlog.size", "2\n"},
		"another root of the size": {func(b *bench) []byte {
			b.log = fork(b.log, "a", "z")
			return b.grow(2).Encode()
		}, http.StatusConflict, "", ""},
		"fork": {func(b *bench) []byte {
			b.log = fork(b.log, "a", "z")
			return b.grow(2, "x", "y").Encode()
		}, http.StatusUnprocessableEntity, "", ""},
		"no proof": {func(b *bench) []byte {
			r := b.grow(2, "x")
			r.Proof = nil
			return r.Encode()
		}, http.StatusUnprocessableEntity, "", ""},
		"proof where none is due": {func(b *bench) []byte {
			r := b.grow(2)
			r.Proof = tlog.TreeProof{{1}}
			return r.Encode()
		}, http.StatusUnprocessableEntity, "", ""},
		"nonsense": {func(*bench) []byte { return []byte("nonsense") }, http.StatusBadRequest, "", ""},
		"too long a proof": {func(b *bench) []byte {
			r := b.grow(2, "x")
			r.Proof = make(tlog.TreeProof, 64)
			return r.Encode()
		}, http.StatusBadRequest, "", ""},
		"too large": {func(*bench) []byte { return make([]byte, witness.MaxRequestBytes+1) }, http.StatusBadRequest, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if status, _, answer := b.post(b.grow(0, "a", "b").Encode()); status != http.StatusOK {
				t.Fatalf("%d %s", status, answer)
			}
			status, contentType, answer := b.post(c.request(b))
			if status != c.status || c.contentType != "" && contentType != c.contentType || c.answer != "" && answer != c.answer {
				t.Errorf("answer %d %s %q, want %d %s %q", status, contentType, answer, c.status, c.contentType, c.answer)
			}
		})
	}
}

// fork is another history of the same log.
func fork(l *logtest.Log, entries ...string) *logtest.Log {
	other := l.Fork()
	for _, e := range entries {
		other.Add([]byte(e))
	}
	return other
}

func TestStateOutlivesTheProcess(t *testing.T) {
	b := newBench(t)
	b.post(b.grow(0, "a", "b").Encode())
	key := b.w.Key()
	if _, err := witness.Open(b.dir, nil, nil); !errors.Is(err, statefile.ErrLocked) {
		t.Errorf("a second witness in the directory: %v", err)
	}
	if err := b.w.Close(); err != nil {
		t.Fatal(err)
	}
	b.open(b.log.Signer.Key)
	if b.w.Key() != key {
		t.Error("the key was drawn anew")
	}
	if status, _, answer := b.post(b.grow(0, "x").Encode()); status != http.StatusConflict || answer != "2\n" {
		t.Errorf("answer %d %q", status, answer)
	}
	if status, _, answer := b.post(b.grow(2).Encode()); status != http.StatusOK {
		t.Errorf("answer %d %q", status, answer)
	}
}

// Of the empty tree there is one root: another would have no proof to grow from.
func TestEmptyTreeHasOneRoot(t *testing.T) {
	b := newBench(t)
	empty, err := tlog.TreeHash(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		root tlog.Hash
		want int
	}{{tlog.RecordHash([]byte("x")), http.StatusUnprocessableEntity}, {empty, http.StatusOK}} {
		signed, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: logtest.Origin, Root: c.root}, b.log.Signer)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, answer := b.post(witness.Request{Checkpoint: signed}.Encode()); status != c.want {
			t.Errorf("root %s: answer %d %q, want %d", c.root, status, answer, c.want)
		}
	}
}

// The key is changed under nobody's hands, and the entry that says so is signed
// by the one before.
func TestRotateNeedsTheDirectoryAlone(t *testing.T) {
	b := newBench(t)
	key := b.w.Key()
	if _, err := witness.Rotate(b.dir, rand.Reader, func([]byte) error { return nil }); !errors.Is(err, statefile.ErrLocked) {
		t.Errorf("of a witness that runs: %v", err)
	}
	if err := b.w.Close(); err != nil {
		t.Fatal(err)
	}
	next, entry := b.rotate()
	e, err := logentry.Parse(entry)
	if err != nil || e.VerifyRotation() != nil || string(e.Body.Rotation.Old) != key.String() || string(e.Body.Rotation.New) != next.String() {
		t.Errorf("entry %+v, %v", e, err)
	}
	if b.open(b.log.Signer.Key); b.w.Key() != next || next == key {
		t.Errorf("key %s, want %s", b.w.Key(), next)
	}
}

// rotate draws the next key of a witness that does not run.
func (b *bench) rotate() (next checkpoint.Key, entry []byte) {
	b.t.Helper()
	next, err := witness.Rotate(b.dir, rand.Reader, func(e []byte) error {
		entry = e
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return next, entry
}

// What cannot be kept is not cosigned, its asker is not told why, and the
// witness goes on from what it kept.
func TestFullDisk(t *testing.T) {
	b := newBench(t)
	var faults []error
	server := httptest.NewServer(b.w.Handler(func(err error) { faults = append(faults, err) }))
	t.Cleanup(server.Close)
	b.url = server.URL
	request := b.grow(0, "a").Encode()
	away := filepath.Join(t.TempDir(), "away")
	if err := os.Rename(b.dir, away); err != nil {
		t.Fatal(err)
	}
	if status, _, answer := b.post(request); status != http.StatusInternalServerError || strings.Contains(answer, b.dir) {
		t.Errorf("%d %s", status, answer)
	}
	if len(faults) != 1 || !errors.Is(faults[0], os.ErrNotExist) {
		t.Errorf("faults %v", faults)
	}
	if err := os.Rename(away, b.dir); err != nil {
		t.Fatal(err)
	}
	if status, _, answer := b.post(request); status != http.StatusOK {
		t.Errorf("with room again: %d %s", status, answer)
	}
}

// A rotation that nobody heard of changes nothing, and the next try says the
// same: an entry that is lost would leave clients with a key that is gone.
func TestRotationThatIsNotPublished(t *testing.T) {
	b := newBench(t)
	key := b.w.Key()
	if err := b.w.Close(); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	var lost []byte
	if _, err := witness.Rotate(b.dir, rand.Reader, func(e []byte) error { lost = e; return full }); !errors.Is(err, full) {
		t.Errorf("error %v, want %v", err, full)
	}
	if b.open(b.log.Signer.Key); b.w.Key() != key {
		t.Errorf("key %s is in use, want %s", b.w.Key(), key)
	}
	if err := b.w.Close(); err != nil {
		t.Fatal(err)
	}
	next, entry := b.rotate()
	if !bytes.Equal(entry, lost) {
		t.Error("the next try signs another rotation")
	}
	again, entry := b.rotate()
	e, err := logentry.Parse(entry)
	if err != nil || string(e.Body.Rotation.Old) != next.String() || again == next {
		t.Errorf("the rotation after it: %+v, %v", e, err)
	}
}

// A state that cannot be read is no empty state.
func TestDamagedStateStops(t *testing.T) {
	b := newBench(t)
	b.post(b.grow(0, "a").Encode())
	b.w.Close()
	files, err := filepath.Glob(filepath.Join(b.dir, "*.checkpoint"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, damage := range []string{"", "other.example\n1\n" + strings.Repeat("A", 43) + "=\n\n— x AAAAAAAA\n"} {
		if err := os.WriteFile(files[0], []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		signer, err := witness.LoadKey(b.dir, "", rand.Reader, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := witness.Open(b.dir, signer, []checkpoint.Key{b.log.Signer.Key}); !errors.Is(err, attest.ErrMalformed) {
			t.Errorf("%q: %v", damage, err)
		}
	}
	if _, err := witness.LoadKey(b.dir, "another", rand.Reader, time.Now); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("the key of another name: %v", err)
	}
}

// Of two histories that come at once one alone is cosigned.
func TestOneOfTwoForks(t *testing.T) {
	b := newBench(t)
	b.post(b.grow(0, "a").Encode())
	left, right := fork(b.log, "a", "l"), fork(b.log, "a", "r")
	requests := []witness.Request{
		{Old: 1, Proof: left.Growth(1), Checkpoint: left.Checkpoint()}, {Old: 1, Proof: right.Growth(1), Checkpoint: right.Checkpoint()},
	}
	for range 20 {
		requests = append(requests, requests[0], requests[1])
	}
	var mu sync.Mutex
	roots := map[tlog.Hash]bool{}
	var group sync.WaitGroup
	for _, r := range requests {
		group.Go(func() {
			if _, err := b.w.Add(r); err == nil {
				c, err := checkpoint.Parse(r.Checkpoint)
				mu.Lock()
				defer mu.Unlock()
				if roots[c.Root] = true; err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if len(roots) != 1 {
		t.Errorf("%d histories were cosigned", len(roots))
	}
}

func TestClient(t *testing.T) {
	b := newBench(t)
	prove := func(_ context.Context, from int64) (tlog.TreeProof, error) { return b.log.Growth(from), nil }
	c := &witness.Client{URL: b.url, Key: b.w.Key(), HTTP: http.DefaultClient}
	for _, e := range []string{"a", "b", "c"} {
		b.log.Add([]byte(e))
		signed := b.log.Checkpoint()
		line, err := c.Cosign(t.Context(), b.log.Signer.Key, signed, prove)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := checkpoint.Open(append(signed, line...), b.log.Signer.Key, []checkpoint.Key{c.Key}); err != nil || len(s.Cosignatures) != 1 {
			t.Errorf("%+v, %v", s, err)
		}
	}
	// One that has just started learns the size from the witness.
	b.log.Add([]byte("d"))
	fresh := &witness.Client{URL: b.url, Key: b.w.Key(), HTTP: http.DefaultClient}
	if _, err := fresh.Cosign(t.Context(), b.log.Signer.Key, b.log.Checkpoint(), prove); err != nil {
		t.Error(err)
	}
	other := logtest.New(t, 1)
	wrong := &witness.Client{URL: b.url, Key: other.Witnesses[0].Key, HTTP: http.DefaultClient}
	var status *witness.StatusError
	if _, err := wrong.Cosign(t.Context(), b.log.Signer.Key, b.log.Checkpoint(), prove); !errors.As(err, &status) {
		t.Errorf("a witness of another key: %v", err)
	}
}

func TestRotatedLogKey(t *testing.T) {
	b := newBench(t)
	b.post(b.grow(0, "a").Encode())
	before := b.log.Signer.Key
	b.log.Signer = b.log.NewSigner(checkpoint.KindLog, logtest.Origin)
	if status, _, _ := b.post(b.grow(1, "b").Encode()); status != http.StatusForbidden {
		t.Errorf("a key that is not known yet: %d", status)
	}
	b.w.Close()
	b.open(before, b.log.Signer.Key)
	if status, _, answer := b.post(b.grow(1).Encode()); status != http.StatusOK {
		t.Errorf("once known: %d %s", status, answer)
	}
}

func FuzzParseRequest(f *testing.F) {
	l := logtest.New(f, 0)
	l.Add([]byte("a"))
	l.Add([]byte("b"))
	good := witness.Request{Old: 1, Proof: l.Growth(1), Checkpoint: l.Checkpoint()}.Encode()
	f.Add(good)
	// Base64 that is read and not written so.
	f.Add(bytes.Replace(good, []byte("=\n"), []byte("=\r\n"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := witness.ParseRequest(b)
		if err != nil {
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if !bytes.Equal(r.Encode(), b) {
			t.Errorf("two spellings of one request: %q", b)
		}
	})
}

// What Encode does not write is no request.
func TestParseRequestRefuses(t *testing.T) {
	hash := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for name, c := range map[string]struct{ text, reason string }{
		"nothing":             {"", "it is not old size"},
		"no checkpoint":       {"old 1\n" + hash + "\n", "it is not old size"},
		"no old size":         {"new 1\n\nx", "it is not old size"},
		"old size of no kind": {"old 01\n\nx", "size"},
		"short hash":          {"old 1\nAAAA\n\nx", "proof[0] is no hash"},
		"no base64":           {"old 1\n" + hash + "\n!\n\nx", "proof[1] is no hash"},
		"another spelling":    {"old 1\n" + hash[:42] + "B=\n\nx", "only spelling"},
		"many hashes":         {"old 1\n" + strings.Repeat(hash+"\n", 64) + "\nx", "64 hashes, at most 63"},
		"too large":           {strings.Repeat("x", witness.MaxRequestBytes+1), "at most"},
	} {
		if _, err := witness.ParseRequest([]byte(c.text)); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
