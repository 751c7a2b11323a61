package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/checkpoint"
	"github.com/toolshed-cloud/shed/attest/logaudit"
	"github.com/toolshed-cloud/shed/attest/logtiles"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
	"github.com/toolshed-cloud/shed/orchestrator/translog/translogtest"
)

// auditWorld is a real log, served, and who audits it.
type auditWorld struct {
	t   *testing.T
	dir string
	url string
	key logtest.ReleaseKey
	// results signs the control plane's.
	results *ecdsa.PrivateKey
	log     *translog.Log
	file    func(name, content string) string
}

func newAuditWorld(t *testing.T) *auditWorld {
	t.Helper()
	results, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &auditWorld{t: t, dir: translogtest.TempDir(t), key: logtest.NewReleaseKey(t), results: results}
	w.file = func(name, content string) string {
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	w.serve(filepath.Join(w.dir, "log"))
	w.file("log.vkey", w.log.Key().String()+"\n")
	der, err := x509.MarshalPKIXPublicKey(w.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	w.file("release.pub", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	return w
}

// serve runs the log in a directory, with the key that is there.
func (w *auditWorld) serve(dir string) {
	w.t.Helper()
	const origin = "audit.test/log"
	if _, err := os.Stat(filepath.Join(dir, translog.KeyFile)); err != nil {
		if err := translog.DrawKey(dir, origin, rand.Reader); err != nil {
			w.t.Fatal(err)
		}
	}
	keys, err := translog.LoadKeys(dir, origin)
	if err != nil {
		w.t.Fatal(err)
	}
	w.log, err = translog.Open(w.t.Context(), translog.Options{
		Dir: dir, Keys: keys, ReleaseKey: w.key.Public(), AuditKey: w.results.Public(), Interval: 100 * time.Millisecond, Refresh: time.Hour, Logger: zap.NewNop(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func(l *translog.Log) { done <- l.Run(ctx) }(w.log)
	server := httptest.NewServer(w.log.Handler())
	l := w.log
	w.t.Cleanup(func() {
		server.Close()
		stop()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		l.Close()
	})
	w.url = server.URL
}

func (w *auditWorld) add(r logtest.Release) { w.t.Helper(); w.addEntry(r.Entry) }

func (w *auditWorld) addEntry(entry []byte) {
	w.t.Helper()
	index, err := w.log.Add(w.t.Context(), entry)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	if err := w.log.Witnessed(ctx, index); err != nil {
		w.t.Fatal(err)
	}
}

// audit runs the command and answers its exit code and what it found.
func (w *auditWorld) audit(args ...string) (code int, problems []logaudit.Problem) {
	w.t.Helper()
	var stdout, stderr bytes.Buffer
	args = append([]string{
		"--json", "--state", filepath.Join(w.dir, "state"), "release", "audit", "--log", w.url,
		"--log-key", filepath.Join(w.dir, "log.vkey"), "--release-key", filepath.Join(w.dir, "release.pub"),
	}, args...)
	code = cli.Run(w.t.Context(), newRootCommand(), args, &stdout, &stderr)
	var result auditResult
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		w.t.Fatalf("exit code %d, %v\n%s", code, err, stderr.Bytes())
	}
	for _, f := range result.Findings {
		problems = append(problems, f.Problem)
	}
	return code, problems
}

func TestAuditOfAGoodLog(t *testing.T) {
	w := newAuditWorld(t)
	first := logtest.NewRelease(t, w.key, 1)
	w.add(first)
	w.file("releases/one/manifest.json", string(first.Manifest))
	for range 2 {
		if code, problems := w.audit("--releases", filepath.Join(w.dir, "releases")); code != cli.ExitDone {
			t.Errorf("exit code %d, %v", code, problems)
		}
		w.add(logtest.NewRelease(t, w.key, uint64(w.log.Status().Size+1)))
	}
}

// What would leave a check of the witnesses out is refused.
func TestAuditThatAsksNothing(t *testing.T) {
	w := newAuditWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1))
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := checkpoint.NewKey(checkpoint.KindWitness, "witness.test", public)
	if err != nil {
		t.Fatal(err)
	}
	witness := w.file("witness", key.String()+"\n")
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"--witness", witness, "--witnesses", "-1"}, cli.ExitRefused},
		{[]string{"--witness", witness, "--cosignature-age", "0"}, cli.ExitRefused},
		{[]string{"--witness", witness, "--witness", witness}, cli.ExitRefused},
		{[]string{"--log-key", ""}, cli.ExitUsage},
	} {
		args := append([]string{"--state", filepath.Join(w.dir, "state"), "release", "audit", "--log", w.url,
			"--log-key", filepath.Join(w.dir, "log.vkey"), "--release-key", filepath.Join(w.dir, "release.pub")}, c.args...)
		var stdout, stderr bytes.Buffer
		if code := cli.Run(t.Context(), newRootCommand(), args, &stdout, &stderr); code != c.want || stdout.Len() > 0 {
			t.Errorf("%v: exit code %d\n%s%s", c.args, code, stdout.Bytes(), stderr.Bytes())
		}
	}
}

func TestAuditFinds(t *testing.T) {
	w := newAuditWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1))
	unlogged := logtest.NewRelease(t, w.key, 7)
	w.file("releases/one/manifest.json", string(unlogged.Manifest))
	if code, problems := w.audit("--releases", filepath.Join(w.dir, "releases")); code != cli.ExitRefused || len(problems) != 1 || problems[0] != logaudit.Unlogged {
		t.Errorf("never logged: exit code %d, %v", code, problems)
	}
	// The same key signs another history.
	before, err := os.ReadFile(filepath.Join(w.dir, "log", translog.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	w.file("fork/"+translog.KeyFile, string(before))
	w.serve(filepath.Join(w.dir, "fork"))
	w.add(logtest.NewRelease(t, w.key, 2))
	if code, problems := w.audit(); code != cli.ExitRefused || len(problems) != 1 || problems[0] != logaudit.Fork {
		t.Errorf("fork: exit code %d, %v", code, problems)
	}
	keys, err := checkpoint.ParseSigners(checkpoint.KindLog, string(before))
	if err != nil {
		t.Fatal(err)
	}
	seen, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: keys[0].Name(), Size: 9}, keys[0])
	if err != nil {
		t.Fatal(err)
	}
	if code, problems := w.audit("--checkpoint", w.file("seen", string(seen))); code != cli.ExitRefused || len(problems) != 2 || problems[0] != logaudit.Rollback {
		t.Errorf("a larger head elsewhere: exit code %d, %v", code, problems)
	}
}

// What somebody was shown after the log's key was rotated is compared by an
// auditor that knows the first alone.
func TestAuditOfACopySignedByTheNextKey(t *testing.T) {
	w := newAuditWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1))
	if _, err := w.log.RotateKey(t.Context(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	w.add(logtest.NewRelease(t, w.key, 2))
	keys, err := translog.LoadKeys(filepath.Join(w.dir, "log"), w.log.Key().Name())
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]logaudit.Problem{w.log.Status().Size: logaudit.Fork, 9: logaudit.Rollback} {
		seen, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: keys[0].Name(), Size: size}, keys[0])
		if err != nil {
			t.Fatal(err)
		}
		if code, problems := w.audit("--checkpoint", w.file("seen", string(seen))); code != cli.ExitRefused || len(problems) != 1 || problems[0] != want {
			t.Errorf("size %d: exit code %d, %v, want %s", size, code, problems, want)
		}
	}
}

// Every witness that is named has to have cosigned where no number is, and
// lately.
func TestAuditWantsEachWitness(t *testing.T) {
	w := newAuditWorld(t)
	w.add(logtest.NewRelease(t, w.key, 1))
	witness := logtest.New(t, 1).Witnesses[0]
	if code, problems := w.audit("--witness", w.file("w.vkey", witness.String()+"\n")); code != cli.ExitRefused || len(problems) != 1 || problems[0] != logaudit.Unwitnessed {
		t.Errorf("exit code %d, %v", code, problems)
	}
}

// A cosignature counts for as long as the auditor says.
func TestAuditOfOldCosignatures(t *testing.T) {
	w := newAuditWorld(t)
	l := logtest.New(t, 1)
	l.Time = time.Now().Add(-2 * time.Hour)
	record := logtest.NewRelease(t, w.key, 1).Entry
	l.Add(record)
	w.file("log.vkey", l.Signer.String()+"\n")
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch strings.TrimPrefix(r.URL.Path, "/") {
		case logtiles.CheckpointPath:
			rw.Write(l.Checkpoint()) //nolint:errcheck // who asks sees that it is cut off
		case logtiles.EntriesPath(0, 1):
			rw.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(record))), record...)) //nolint:errcheck // as above
		default:
			http.NotFound(rw, r)
		}
	}))
	t.Cleanup(server.Close)
	w.url = server.URL
	witness := w.file("w.vkey", l.Witnesses[0].String()+"\n")
	for age, want := range map[string]int{"3h": cli.ExitDone, "1h": cli.ExitRefused} {
		if code, problems := w.audit("--witness", witness, "--cosignature-age", age); code != want {
			t.Errorf("%s: exit code %d, %v, want %d", age, code, problems, want)
		}
	}
}
