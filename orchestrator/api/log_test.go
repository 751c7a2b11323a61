package api_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/api"
	"github.com/toolshed-cloud/shed/orchestrator/monitor"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/translog"
	"github.com/toolshed-cloud/shed/orchestrator/translog/translogtest"
	"github.com/toolshed-cloud/shed/providers"
)

// withLog gives an operator's control plane a log that no witness is asked for,
// and a key that signs releases.
func withLog(t *testing.T) (*operator, logtest.ReleaseKey) {
	t.Helper()
	d, key, dir := newOperator(t), logtest.NewReleaseKey(t), translogtest.TempDir(t)
	if err := translog.DrawKey(dir, "api.test/log", rand.Reader); err != nil {
		t.Fatal(err)
	}
	keys, err := translog.LoadKeys(dir, "api.test/log")
	if err != nil {
		t.Fatal(err)
	}
	log, err := translog.Open(t.Context(), translog.Options{
		Dir: dir, Keys: keys, ReleaseKey: key.Public(), Interval: 100 * time.Millisecond, Refresh: time.Hour, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		log.Close()
	})
	server := httptest.NewServer(api.New(api.Parts{
		Store: d.store, Watch: d.store, SignUps: signup.Service{Clock: time.Now, Random: rand.Reader},
		ReleaseKey: key.Public(), Log: log, Ready: func(context.Context) error { return nil },
		Obstacle: func(orchestrator.State) string { return "" }, Offered: func(providers.MachineID) {}, Metrics: monitor.New(d.store).Handler(), Clock: time.Now, Logger: zap.NewNop(),
	}))
	t.Cleanup(server.Close)
	d.http = server
	return d, key
}

// body is a release as it is added.
func (d *operator) body(r logtest.Release, entry []byte) string {
	d.t.Helper()
	disk := filepath.Join(d.t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, []byte("disk"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	b, err := json.Marshal(adminclient.NewRelease{Manifest: r.Manifest, Bundle: r.Bundle, Entry: entry, DiskPath: disk})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(b)
}

func (d *operator) entry(b []byte) string {
	d.t.Helper()
	text, err := json.Marshal(adminclient.NewLogEntry{Entry: b})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

func TestReleasesGoIntoTheLog(t *testing.T) {
	d, key := withLog(t)
	r := logtest.NewRelease(t, key, 1)
	d.want(http.StatusUnprocessableEntity, "entry-missing", "POST", "/v1/releases", d.body(r, nil))
	d.want(http.StatusForbidden, "entry-refused", "POST", "/v1/releases", d.body(r, logtest.NewRelease(t, key, 2).Entry))
	d.want(http.StatusForbidden, "entry-refused", "POST", "/v1/releases", d.body(r, logtest.NewReleaseKey(t).Entry(
		logentry.Body{Kind: logentry.KindRelease, Release: &r.Statement})))
	if text := d.want(http.StatusOK, "", "GET", "/v1/releases", ""); strings.Contains(text, r.Digest.String()) {
		t.Errorf("a release was added that the log does not have: %s", text)
	}
	first := d.want(http.StatusCreated, "", "POST", "/v1/releases", d.body(r, r.Entry))
	again := d.want(http.StatusCreated, "", "POST", "/v1/releases", d.body(r, r.Entry))
	shown := d.want(http.StatusOK, "", "GET", "/v1/releases/"+r.Digest.String(), "")
	if !strings.Contains(first, `"default":true`) || again != shown {
		t.Errorf("added: %s\nadded again: %s\nshown: %s", first, again, shown)
	}
	var log adminclient.Log
	if err := json.Unmarshal([]byte(d.want(http.StatusOK, "", "GET", "/v1/log", "")), &log); err != nil || log.Size != 1 || log.Origin != "api.test/log" {
		t.Errorf("log %+v, %v", log, err)
	}
}

func TestLogEntries(t *testing.T) {
	d, key := withLog(t)
	r := logtest.NewRelease(t, key, 1)
	withdrawal := logentry.Body{Kind: logentry.KindWithdrawal, Withdrawal: &logentry.Withdrawal{Manifest: r.Digest, Reason: logentry.ReasonFaulty}}
	d.want(http.StatusUnprocessableEntity, "entry-kind", "POST", "/v1/log/entries", d.entry(r.Entry))
	d.want(http.StatusForbidden, "entry-refused", "POST", "/v1/log/entries", d.entry(logtest.NewReleaseKey(t).Entry(withdrawal)))
	d.want(http.StatusForbidden, "entry-refused", "POST", "/v1/log/entries", d.entry([]byte("nonsense")))
	// A digest that was mistyped would stand in the log for good.
	d.want(http.StatusForbidden, "entry-refused", "POST", "/v1/log/entries", d.entry(key.Entry(withdrawal)))
	d.want(http.StatusCreated, "", "POST", "/v1/releases", d.body(r, r.Entry))
	d.want(http.StatusCreated, "", "POST", "/v1/log/entries", d.entry(key.Entry(withdrawal)))
	next := logtest.NewReleaseKey(t)
	d.want(http.StatusCreated, "", "POST", "/v1/log/entries", d.entry(key.Entry(logentry.Body{
		Kind: logentry.KindRotation, Rotation: &logentry.Rotation{Use: logentry.UseRelease, Old: key.DER(), New: next.DER()},
	})))
	// From now on the next key signs releases, and the one before it no more.
	later := logtest.NewRelease(t, next, 2)
	d.want(http.StatusCreated, "", "POST", "/v1/releases", d.body(later, later.Entry))
	old := logtest.NewRelease(t, key, 3)
	d.want(http.StatusForbidden, "entry-refused", "POST", "/v1/releases", d.body(old, old.Entry))
	d.want(http.StatusOK, "", "POST", "/v1/log/rotate", "")
}

func TestNoLog(t *testing.T) {
	d := newOperator(t)
	for path, method := range map[string]string{"/v1/log": "GET", "/v1/log/rotate": "POST"} {
		d.want(http.StatusNotFound, "no-log", method, path, "")
	}
	d.want(http.StatusNotFound, "no-log", "POST", "/v1/log/entries", d.entry([]byte("x")))
}
