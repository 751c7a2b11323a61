package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/api"
	"github.com/toolshed-cloud/shed/orchestrator/monitor"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
)

type operator struct {
	t     *testing.T
	store *sqlite.Store
	http  *httptest.Server
	token string
	// told are the machines that were told of an offer.
	told chan providers.MachineID
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	s, err := sqlite.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() }) //nolint:errcheck // the test is over
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := api.AdminToken(t.Context(), s, tokenFile, rand.Reader); err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(tokenFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's mode is %v: %v", info.Mode(), err)
	}
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	results, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d := &operator{t: t, store: s, token: strings.TrimSpace(string(token)), told: make(chan providers.MachineID, 16)}
	d.http = httptest.NewServer(api.New(api.Parts{
		Store: s, Watch: s, SignUps: signup.Service{Clock: time.Now, Random: rand.Reader}, Provider: provider(), Providers: []string{"memory"},
		ReleaseKey: public, ResultKey: results.Public(), Ready: func(context.Context) error { return errors.New("no release has been added") },
		Metrics: monitor.New(s).Handler(), Obstacle: func(orchestrator.State) string { return "" }, Offered: func(id providers.MachineID) { d.told <- id }, Clock: time.Now, Logger: zap.NewNop(),
	}))
	t.Cleanup(d.http.Close)
	return d
}

// provider is one that has consoles, makes snapshots and attaches kept disks.
func provider() func(string) api.Provider {
	cloud := memory.New(time.Now)
	return func(string) api.Provider {
		return api.Provider{Catalog: cloud, Info: memory.Describe(), Consoler: consoles{}, Snapshotter: cloud, AttachesData: true}
	}
}

type consoles struct{}

// Console is one that says nothing where it is followed.
func (consoles) Console(ctx context.Context, id providers.MachineID, follow bool) (io.ReadCloser, error) {
	if follow {
		silent, w := io.Pipe()
		context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
		return silent, nil
	}
	return io.NopCloser(strings.NewReader("console of " + string(id))), nil
}

func (d *operator) do(method, path, body string) (int, string) {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.http.URL+path, strings.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func (d *operator) want(status int, code, method, path, body string) string {
	d.t.Helper()
	got, text := d.do(method, path, body)
	if got != status {
		d.t.Errorf("%s %s: %d, want %d: %s", method, path, got, status, text)
	}
	if code == "" {
		return text
	}
	var p struct{ Code, Detail, Title, Type string }
	if err := json.Unmarshal([]byte(text), &p); err != nil || p.Code != code || p.Detail == "" || p.Title == "" {
		d.t.Errorf("%s %s: %s, want code %s: %v", method, path, text, code, err)
	}
	return text
}

func (d *operator) create(user string) (i api.Instance) {
	d.t.Helper()
	if err := json.Unmarshal([]byte(d.want(http.StatusCreated, "", "POST", "/v1/instances", `{"user_id":"`+user+`"}`)), &i); err != nil {
		d.t.Fatal(err)
	}
	return i
}

const nobody = "aaaaaaaaaaaaaaaaaaaaaaaaaa"

func TestEverythingOfAnybodyNeedsAToken(t *testing.T) {
	d := newOperator(t)
	d.token = ""
	for _, path := range []string{"/v1/instances", "/v1/releases", "/v1/events", "/v1/instances/" + nobody + "/console", "/v1/none"} {
		d.want(http.StatusUnauthorized, "token-missing", "GET", path, "")
	}
	d.token = "shed_wrong"
	d.want(http.StatusUnauthorized, "token-unknown", "GET", "/v1/instances", "")
	d.token = ""
	d.want(http.StatusNoContent, "", "GET", "/healthz", "")
	d.want(http.StatusServiceUnavailable, "not-ready", "GET", "/readyz", "")
	d.want(http.StatusOK, "", "GET", "/metrics", "")
}

func TestInstancesComeAndGo(t *testing.T) {
	d := newOperator(t)
	i := d.create("amara")
	if i.State != "waiting" || i.UserID != "amara" || i.Reason == "" {
		t.Errorf("%+v", i)
	}
	if again := d.want(http.StatusOK, "", "POST", "/v1/instances", `{"user_id":"amara"}`); !strings.Contains(again, i.ID) {
		t.Errorf("asking twice made another: %s", again)
	}
	path := "/v1/instances/" + i.ID
	d.want(http.StatusOK, "", "GET", path, "")
	d.want(http.StatusConflict, "conflict", "POST", path+"/retry", "")
	d.want(http.StatusNotFound, "no-machine", "GET", path+"/console", "")
	if gone := d.want(http.StatusAccepted, "", "DELETE", path, ""); !strings.Contains(gone, `"desired":"absent"`) {
		t.Errorf("%s", gone)
	}
	d.want(http.StatusAccepted, "", "DELETE", path, "")
}

func TestRetryAndConsole(t *testing.T) {
	d := newOperator(t)
	id := orchestrator.InstanceID(d.create("amara").ID)
	err := d.store.Update(t.Context(), func(tx store.Tx) error {
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		i.Machine, i.Created = "machine", true
		i.Enter(orchestrator.StateFailed, "it burned", time.Now(), orchestrator.Limits{})
		return tx.Replace(&i)
	})
	if err != nil {
		t.Fatal(err)
	}
	path := "/v1/instances/" + string(id)
	if text := d.want(http.StatusOK, "", "GET", path+"/console", ""); text != "console of machine" {
		t.Errorf("%q", text)
	}
	// A machine that says nothing has a console too, and at once.
	followed, err := (&adminclient.Client{Base: d.http.URL, Token: d.token, Timeout: 5 * time.Second}).Console(t.Context(), string(id), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := followed.Close(); err != nil {
		t.Error(err)
	}
	if text := d.want(http.StatusAccepted, "", "POST", path+"/retry", ""); !strings.Contains(text, `"state":"booting"`) {
		t.Errorf("%s", text)
	}
}

func TestBadRequestsGetProblems(t *testing.T) {
	d := newOperator(t)
	d.want(http.StatusNotFound, "not-found", "GET", "/v1/instances/"+nobody, "")
	d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "GET", "/v1/instances/short", "")
	d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "GET", "/v1/instances?limit=0", "")
	d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "GET", "/v1/instances?colour=red", "")
	d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "POST", "/v1/instances", `{}`)
	d.want(http.StatusUnprocessableEntity, "unprocessable-entity", "POST", "/v1/instances", `{"user_id":"a","root":true}`)
	d.want(http.StatusUnprocessableEntity, "user-invalid", "POST", "/v1/instances", `{"user_id":"a\u0000"}`)
	if text := d.want(http.StatusUnprocessableEntity, "user-invalid", "POST", "/v1/instances", `{"user_id":"a\ud800"}`); strings.Contains(text, "webhook") {
		t.Errorf("no webhook was sent: %s", text)
	}
	d.want(http.StatusForbidden, "release-refused", "POST", "/v1/releases", `{"manifest":"e30=","bundle":"e30=","disk_path":"/disk"}`)
	d.want(http.StatusNotFound, "not-found", "GET", "/v1/releases/"+strings.Repeat("0", 64), "")
}

func TestPagesAreFollowedByTheirNext(t *testing.T) {
	d := newOperator(t)
	for _, user := range []string{"a", "b", "c"} {
		d.create(user)
	}
	var users []string
	for after, rounds := "", 0; rounds < 5; rounds++ {
		var page api.Instances
		text := d.want(http.StatusOK, "", "GET", "/v1/instances?limit=2&after="+after, "")
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Instances {
			users = append(users, i.UserID)
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if got := strings.Join(users, ""); got != "abc" {
		t.Errorf("%s", got)
	}
}

func TestEventsAreFollowed(t *testing.T) {
	d := newOperator(t)
	first := d.create("a")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.http.URL+"/v1/events?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	var e api.Event
	if err := lines.Decode(&e); err != nil || e.Instance != first.ID || e.To != "waiting" {
		t.Fatalf("%+v: %v", e, err)
	}
	second := d.create("b")
	if err := lines.Decode(&e); err != nil || e.Instance != second.ID {
		t.Fatalf("%+v: %v", e, err)
	}
	if text := d.want(http.StatusOK, "", "GET", "/v1/events?instance="+first.ID, ""); strings.Count(text, "\n") != 1 {
		t.Errorf("%s", text)
	}
}

func TestOpenAPINamesEveryOperation(t *testing.T) {
	d := newOperator(t)
	d.token = ""
	text := d.want(http.StatusOK, "", "GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatalf("%s: %v", doc.OpenAPI, err)
	}
	for path, methods := range map[string][]string{
		"/v1/instances": {"get", "post"}, "/v1/instances/{id}": {"get", "delete"}, "/v1/instances/{id}/retry": {"post"},
		"/v1/instances/{id}/resize": {"post"}, "/v1/instances/{id}/snapshots/{snapshot}": {"put", "delete"},
		"/v1/instances/{id}/snapshots/{snapshot}/restore": {"post"}, "/v1/providers": {"get"}, "/v1/offerings": {"get"},
		"/v1/instances/{id}/console": {"get"}, "/v1/releases": {"get", "post"}, "/v1/releases/{digest}": {"get"}, "/v1/events": {"get"},
	} {
		for _, method := range methods {
			if doc.Paths[path][method] == nil {
				t.Errorf("%s %s is missing", method, path)
			}
		}
	}
	if !strings.Contains(text, `"code"`) {
		t.Error("problems have no code")
	}
	// The first time it is made, the second it is there.
	create := fmt.Sprint(doc.Paths["/v1/instances"]["post"])
	for _, status := range []string{"200:map[content:map[application/json:map[schema:", "201:map[content:map[application/json:map[schema:"} {
		if !strings.Contains(create, status) {
			t.Errorf("%s… is missing: %s", status, create)
		}
	}
}

func TestMetricsNameNobody(t *testing.T) {
	d := newOperator(t)
	i := d.create("amara")
	text := d.want(http.StatusOK, "", "GET", "/metrics", "")
	if !strings.Contains(text, `shed_instances{state="waiting"} 1`) {
		t.Error("the instance is not counted")
	}
	if bytes.Contains([]byte(text), []byte("amara")) || strings.Contains(text, i.ID) {
		t.Error("somebody is named")
	}
}
