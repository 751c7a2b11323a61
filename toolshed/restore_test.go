package toolshed_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/backup"
)

// archived is a whole backup of one file.
func archived(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(content)
	manifest, err := json.Marshal(map[string]any{
		"version": backup.Version, "files": []any{map[string]any{"name": name, "size_bytes": len(content), "sha256": hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name string, content []byte) {
		err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o600})
		_, written := w.Write(content)
		if err := errors.Join(err, written); err != nil {
			t.Fatal(err)
		}
	}
	add(name, content)
	add("manifest.json", manifest)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// keptBy is the database of keys of a toolshed with one key, after statements.
func keptBy(t *testing.T, statements string) []byte {
	t.Helper()
	dir := t.TempDir()
	handler, close, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler)
	status, text, _ := ask(t, s.URL, "PUT", "/api/kv/colour", "green")
	s.Close()
	if err := close(); err != nil || status != http.StatusNoContent {
		t.Fatal(status, text, err)
	}
	path := filepath.Join(dir, "kv.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), statements)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What the next start could not open is refused, since nobody would be there to
// restore anything else.
func TestRestoreOfWhatCannotBeOpened(t *testing.T) {
	for name, b := range map[string][]byte{
		"text": []byte("keys"), "newer": keptBy(t, "PRAGMA user_version = 9999"), "another's": keptBy(t, "DROP TABLE entries"),
		"cut": keptBy(t, "")[:8192],
	} {
		dir := t.TempDir()
		handler, close, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(handler)
		status, text, _ := ask(t, s.URL, "POST", "/api/restore", string(archived(t, "kv.db", b)), "Content-Type", "application/x-tar")
		s.Close()
		if status != http.StatusUnprocessableEntity || !strings.Contains(text, "kv.db") {
			t.Errorf("%s: %d %s", name, status, text)
		}
		if err := errors.Join(close(), backup.PutInPlace(dir)); err != nil {
			t.Fatal(err)
		}
		if _, close, err = open(dir); err != nil {
			t.Errorf("%s: the toolshed does not start again: %v", name, err)
		} else if err := close(); err != nil {
			t.Error(err)
		}
	}
}

// What is written while a backup comes is not lost to it.
func TestRestoreOverWhatIsWrittenMeanwhile(t *testing.T) {
	dir := t.TempDir()
	handler, close, err := open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(handler)
	b := archived(t, "kv.db", keptBy(t, ""))
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/api/restore", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-tar")
	go func() {
		_, err := w.Write(b[:len(b)/2])
		// By now somebody reads: the toolshed was fresh.
		if status, text, _ := ask(t, s.URL, "PUT", "/api/kv/mine", "kept"); status != http.StatusNoContent {
			t.Errorf("writing meanwhile: %d %s", status, text)
		}
		_, rest := w.Write(b[len(b)/2:])
		if err := errors.Join(err, rest, w.Close()); err != nil {
			t.Error(err)
		}
	}()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusConflict {
		t.Errorf("it answers %d", resp.StatusCode)
	}
	if status, text, _ := ask(t, s.URL, "PUT", "/api/kv/after", "kept"); status != http.StatusNoContent {
		t.Errorf("writing after it was refused: %d %s", status, text)
	}
	s.Close()
	if err := errors.Join(close(), backup.PutInPlace(dir)); err != nil {
		t.Fatal(err)
	}
	if handler, close, err = open(dir); err != nil {
		t.Fatal(err)
	}
	again := httptest.NewServer(handler)
	if _, text, _ := ask(t, again.URL, "GET", "/api/kv/mine", ""); text != "kept" {
		t.Errorf("what was written is %q", text)
	}
	again.Close()
	if err := close(); err != nil {
		t.Error(err)
	}
}

// From the moment that a backup is taken nobody is told that something is kept,
// whether they ask then or asked before; reading goes on.
func TestRestoreAcknowledgesNothingMore(t *testing.T) {
	s := serve(t)
	body, w := io.Pipe()
	late, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s+"/api/kv/late", body)
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{})
	late.Header.Set("Expect", "100-continue")
	late = late.WithContext(httptrace.WithClientTrace(late.Context(), &httptrace.ClientTrace{Got100Continue: func() { close(arrived) }}))
	answered := make(chan *http.Response, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Hour}}).Do(late)
		if err != nil {
			t.Error(err)
		}
		answered <- resp
	}()
	// Its handler has begun to read.
	<-arrived
	if status, text, _ := ask(t, s, "POST", "/api/restore", string(archived(t, "kv.db", keptBy(t, ""))), "Content-Type", "application/x-tar"); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	io.WriteString(w, "late")
	w.Close()
	if resp := <-answered; resp != nil {
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), `"restoring"`) || resp.Header.Get("ETag") != "" || err != nil {
			t.Errorf("what came late: %d %v %s", resp.StatusCode, resp.Header, text)
		}
	}
	if status, text, h := ask(t, s, "PUT", "/api/kv/later", "x"); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
		t.Errorf("what came later: %d %s", status, text)
	}
	if status, _, _ := ask(t, s, "GET", "/api/kv", ""); status != http.StatusOK {
		t.Errorf("reading: %d", status)
	}
}

// A schedule is something that is kept, before anything came of it.
func TestRestoreOverASchedule(t *testing.T) {
	s := serve(t)
	if status, text, _ := ask(t, s, "PUT", "/api/cron/nightly?queue=mail&schedule="+url.QueryEscape("0 3 * * *"), "tick"); status != http.StatusOK {
		t.Fatal(status, text)
	}
	status, text, _ := ask(t, s, "POST", "/api/restore", string(archived(t, "kv.db", keptBy(t, ""))), "Content-Type", "application/x-tar")
	if status != http.StatusConflict || !strings.Contains(text, "schedules") {
		t.Errorf("%d %s", status, text)
	}
}

// What the owner says of predicates is something that is kept, before any fact.
func TestRestoreOverAHint(t *testing.T) {
	s := serve(t)
	asks(t, s, 204, "PUT", "/api/profile/schema/hints", `{"predicate": "http://e/age", "single_valued": true}`)
	status, text, _ := ask(t, s, "POST", "/api/restore", string(archived(t, "kv.db", keptBy(t, ""))), "Content-Type", "application/x-tar")
	if status != http.StatusConflict || !strings.Contains(text, "profile has 1") {
		t.Errorf("%d %s", status, text)
	}
}

// What has arrived of an upload was acknowledged, and is kept until it expires
// or is ended.
func TestRestoreOverAnUpload(t *testing.T) {
	s := serve(t)
	tus := []string{"Tus-Resumable", "1.0.0"}
	_, _, h := ask(t, s, "POST", "/api/blobs/uploads", "half", append(tus, "Upload-Length", "8", "Content-Type", "application/offset+octet-stream")...)
	restore := func() (int, string) {
		status, text, _ := ask(t, s, "POST", "/api/restore", string(archived(t, "kv.db", keptBy(t, ""))), "Content-Type", "application/x-tar")
		return status, text
	}
	if status, text := restore(); status != http.StatusConflict || !strings.Contains(text, "blobs has 1") {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := ask(t, s, "DELETE", h.Get("Location"), "", tus...); status != http.StatusNoContent {
		t.Fatal(status, text)
	}
	if status, text := restore(); status != http.StatusAccepted {
		t.Errorf("without it: %d %s", status, text)
	}
}

// A backup brings tokens: who may not do everything could give themselves more.
func TestRestoreIsForWhoMayDoEverything(t *testing.T) {
	s := serve(t)
	_, text, _ := ask(t, s, "POST", "/api/auth/tokens", `{"name":"x","scopes":["backup:*","backup:write"]}`, "Content-Type", "application/json")
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(text), &token); err != nil || token.Token == "" {
		t.Fatal(text, err)
	}
	status, text, _ := ask(t, s, "POST", "/api/restore", string(archived(t, "kv.db", keptBy(t, ""))),
		"Content-Type", "application/x-tar", "Authorization", "Bearer "+token.Token)
	if status != http.StatusForbidden {
		t.Errorf("%d %s", status, text)
	}
}
