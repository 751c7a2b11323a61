package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/attest/ear"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// resultsWorld is a control plane's chain of results beside a real log.
type resultsWorld struct {
	*auditWorld
	key     []byte
	head    auditlog.Head
	entries []adminclient.Result
	admin   string
}

func newResultsWorld(t *testing.T) *resultsWorld {
	t.Helper()
	w := &resultsWorld{auditWorld: newAuditWorld(t)}
	var err error
	if w.key, err = x509.MarshalPKIXPublicKey(w.results.Public()); err != nil {
		t.Fatal(err)
	}
	w.file("results.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: w.key})))
	w.file("token", "shed_x")
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		from, err := strconv.Atoi(r.URL.Query().Get("from"))
		if err != nil {
			t.Error(err)
		}
		page := adminclient.Results{Key: w.key, Count: w.head.Count, Hash: w.head.Hash.String(), Entries: []adminclient.Result{}}
		if from < len(w.entries) {
			// Two at a time, so that a chain has pages.
			page.Entries = w.entries[from:min(from+2, len(w.entries))]
		}
		_ = json.NewEncoder(rw).Encode(page)
	}))
	t.Cleanup(server.Close)
	w.admin = server.URL
	for range 5 {
		w.record()
	}
	return w
}

func (w *resultsWorld) record() {
	w.t.Helper()
	at := time.Now()
	claims := ear.Issue(ear.Issuer{Role: ear.ControlPlane, At: at}, ear.Subject{}, attest.AttestationResult{})
	token, err := ear.Sign(rand.Reader, claims, w.results)
	if err != nil {
		w.t.Fatal(err)
	}
	e := auditlog.Entry{Index: w.head.Count, At: at.UnixMicro(), Instance: "i", Machine: "m", EAR: token}
	if w.head, err = w.head.Next(&e); err != nil {
		w.t.Fatal(err)
	}
	w.entries = append(w.entries, adminclient.Result{Index: e.Index, AtUS: e.At, Instance: "i", Machine: "m", EAR: token, Hash: w.head.Hash.String()})
}

// logHead puts a head into the log.
func (w *resultsWorld) logHead(h auditlog.Head) {
	w.t.Helper()
	body := logentry.Body{Kind: logentry.KindAuditHead, AuditHead: &logentry.AuditHead{Head: h.Hash, Count: h.Count}}
	e, err := logentry.Sign(body, w.key, func(m []byte) ([]byte, error) {
		digest := sha256.Sum256(m)
		return ecdsa.SignASN1(rand.Reader, w.results, digest[:])
	})
	if err != nil {
		w.t.Fatal(err)
	}
	encoded, err := e.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	w.addEntry(encoded)
}

// verify runs the command and answers its exit code and what it found.
func (w *resultsWorld) verify(log string, args ...string) (code int, result chainResult, stderr string) {
	w.t.Helper()
	var stdout, errs bytes.Buffer
	args = append([]string{
		"--json", "--state", filepath.Join(w.dir, "state"), "audit", "verify", "--key", filepath.Join(w.dir, "results.pub"),
		"--log", log, "--log-key", filepath.Join(w.dir, "log.vkey"), "--release-key", filepath.Join(w.dir, "release.pub"),
	}, args...)
	code = cli.Run(w.t.Context(), newRootCommand(), args, &stdout, &errs)
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
			w.t.Fatal(err)
		}
	}
	return code, result, errs.String()
}

func (w *resultsWorld) online() []string {
	return []string{"--admin", w.admin, "--token-file", filepath.Join(w.dir, "token")}
}

// A chain is verified at the control plane, and then from an export and a copy
// of the log with neither of them there.
func TestAuditVerify(t *testing.T) {
	w := newResultsWorld(t)
	w.logHead(w.head)
	w.record()
	export := filepath.Join(w.dir, "results.jsonl")
	code, result, stderr := w.verify(w.url, append(w.online(), "--export", export)...)
	if code != cli.ExitDone || result.Heads != 1 || result.Covered != 5 || result.Head.Count != 6 || !result.KeyPinned || result.Log == nil {
		t.Fatalf("exit code %d, %+v\n%s", code, result.Report, stderr)
	}
	tiles := w.copyLog()
	if code, result, stderr = w.verify(tiles, "--chain", export); code != cli.ExitDone || result.Covered != 5 {
		t.Errorf("offline: exit code %d, %+v\n%s", code, result.Report, stderr)
	}
	cut, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(cut), "\n")
	short := w.file("short.jsonl", strings.Join(lines[:4], ""))
	code, result, _ = w.verify(tiles, "--chain", short)
	if code != cli.ExitRefused || !found(result, auditlog.Truncated) {
		t.Errorf("a cut export: exit code %d, %+v", code, result.Report)
	}
	// The key that comes with the chain is not taken for one that a script left empty.
	if code, _, stderr = w.verify(tiles, "--chain", export, "--key", ""); code != cli.ExitUsage || !strings.Contains(stderr, "--key is empty") {
		t.Errorf("an empty key: exit code %d\n%s", code, stderr)
	}
	if code, _, _ = w.verify(tiles, "--chain", filepath.Join(w.dir, "nowhere")); code != cli.ExitNotFound {
		t.Errorf("no export: exit code %d", code)
	}
	if code, _, _ = w.verify(w.url, "--admin", "127.0.0.1:1", "--token-file", filepath.Join(w.dir, "token")); code != cli.ExitUnreachable {
		t.Errorf("no control plane: exit code %d", code)
	}
}

// copyLog copies the log as it is served.
func (w *resultsWorld) copyLog() string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "copy")
	for _, path := range []string{logtiles.CheckpointPath, logtiles.EntriesPath(0, 1)} {
		b, err := fetchFrom(w.url, time.Minute)(w.t.Context(), path)
		if err != nil {
			w.t.Fatal(err)
		}
		w.file(filepath.Join("copy", path), string(b))
	}
	return dir
}

func found(r chainResult, problem auditlog.Problem) bool {
	for _, f := range r.Findings {
		if f.Problem == problem {
			return true
		}
	}
	return false
}

// What a control plane that rewrites its results cannot rewrite is the log.
func TestAuditVerifyFindsAnotherHistory(t *testing.T) {
	w := newResultsWorld(t)
	w.logHead(w.head)
	w.head, w.entries = auditlog.Head{}, nil
	for range 6 {
		w.record()
	}
	code, result, stderr := w.verify(w.url, w.online()...)
	if code != cli.ExitRefused || !found(result, auditlog.Fork) {
		t.Errorf("exit code %d, %+v\n%s", code, result.Report, stderr)
	}
	w.entries[1].Instance = "another"
	if _, result, _ = w.verify(w.url, w.online()...); !found(result, auditlog.Changed) {
		t.Errorf("%+v", result.Report)
	}
}

// What a control plane calls its machines is nothing that a terminal obeys: it could
// wipe out what was found.
func TestAuditVerifyShowsNoEscape(t *testing.T) {
	w := newResultsWorld(t)
	w.entries[1].Instance = "\x1b[2J\x1b[H"
	var stdout, stderr bytes.Buffer
	args := append([]string{"--state", filepath.Join(w.dir, "state"), "audit", "verify", "--key", filepath.Join(w.dir, "results.pub")}, w.online()...)
	code := cli.Run(t.Context(), newRootCommand(), args, &stdout, &stderr)
	if code == cli.ExitDone || strings.ContainsRune(stdout.String()+stderr.String(), '\x1b') {
		t.Errorf("exit code %d\n%q\n%q", code, stdout.String(), stderr.String())
	}
}
