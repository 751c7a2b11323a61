package signup_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/signup"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/orchestrator/store/sqlite"
)

// intake is a handler over a real store, and a source that shares its secret.
type intake struct {
	t       *testing.T
	now     time.Time
	dir     string
	store   *sqlite.Store
	secret  signup.Secret
	handler http.Handler
	trap    failpoint.Trap
	next    int
}

func newIntake(t *testing.T) *intake {
	t.Helper()
	text, err := signup.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := signup.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	d := &intake{
		t: t, now: time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC), dir: t.TempDir(), secret: secret,
		trap: func(failpoint.Point) {},
	}
	d.open()
	t.Cleanup(func() { d.store.Close() }) //nolint:errcheck // the test is over
	return d
}

func (d *intake) open() {
	d.t.Helper()
	var err error
	if d.store, err = sqlite.Open(d.t.Context(), d.dir); err != nil {
		d.t.Fatal(err)
	}
	h := &signup.Handler{
		Service: signup.Service{Clock: func() time.Time { return d.now }, Random: rand.Reader},
		Store:   d.store, Secret: d.secret, Logger: zap.NewNop(),
		Trap:  func(p failpoint.Point) { d.trap(p) },
		Count: func(string) {},
	}
	d.handler = h.Routes()
}

func event(kind, user string, at time.Time) []byte {
	return fmt.Appendf(nil, `{"type":%q,"timestamp":%q,"data":{"user_id":%q}}`, kind, at.Format(time.RFC3339Nano), user)
}

// signed is a message of a source whose clock is ours.
func (d *intake) signed(id string, body []byte) *http.Request {
	d.t.Helper()
	header, err := d.secret.Sign(id, d.now, body)
	if err != nil {
		d.t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, signup.Path, bytes.NewReader(body))
	r.Header = header
	r.Header.Set("Content-Type", "application/json")
	return r
}

func (d *intake) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w
}

// post sends an event under a fresh id and returns what became of it.
func (d *intake) post(kind, user string, at time.Time) signup.Outcome {
	d.t.Helper()
	d.next++
	w := d.do(d.signed(fmt.Sprintf("msg_%d", d.next), event(kind, user, at)))
	if w.Code != http.StatusOK {
		d.t.Fatalf("%d: %s", w.Code, w.Body)
	}
	var o signup.Outcome
	if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil {
		d.t.Fatal(err)
	}
	return o
}

func (d *intake) present() (all []orchestrator.Instance) {
	d.t.Helper()
	err := d.store.View(d.t.Context(), func(v store.Reader) (err error) {
		found, err := v.Instances(store.Filter{})
		for _, i := range found {
			if i.Desired == orchestrator.Present {
				all = append(all, i)
			}
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

func (d *intake) wantPresent(n int) {
	d.t.Helper()
	if all := d.present(); len(all) != n {
		d.t.Errorf("%d instances, want %d", len(all), n)
	}
}

func TestSignupIsTakenInOnce(t *testing.T) {
	d := newIntake(t)
	body := event(signup.UserCreated, "amara", d.now)
	for n, want := range []signup.Result{signup.Created, signup.Duplicate, signup.Duplicate} {
		w := d.do(d.signed("msg_first", body))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), string(want)) {
			t.Errorf("try %d: %d %s", n, w.Code, w.Body)
		}
	}
	if o := d.post(signup.UserCreated, "amara", d.now.Add(time.Second)); o.Result != signup.Existing {
		t.Errorf("another id for the same user: %+v", o)
	}
	d.wantPresent(1)
}

func TestSignupsAtOnceMakeOneInstance(t *testing.T) {
	d := newIntake(t)
	var group sync.WaitGroup
	for n := range 16 {
		r := d.signed(fmt.Sprintf("msg_%d", n%8), event(signup.UserCreated, "amara", d.now))
		group.Go(func() {
			if w := d.do(r); w.Code != http.StatusOK {
				t.Errorf("%d: %s", w.Code, w.Body)
			}
		})
	}
	group.Wait()
	d.wantPresent(1)
}

func TestOldSignupAfterDeletionBringsNothingBack(t *testing.T) {
	d := newIntake(t)
	t0 := d.now
	d.post(signup.UserCreated, "amara", t0)
	d.now = t0.Add(time.Minute)
	if o := d.post(signup.UserDeleted, "amara", t0.Add(time.Minute)); o.Result != signup.Deleting {
		t.Fatalf("%+v", o)
	}
	d.wantPresent(0)
	for _, at := range []time.Time{t0, t0.Add(time.Minute)} {
		if o := d.post(signup.UserCreated, "amara", at); o.Result != signup.Ignored || o.Reason == "" {
			t.Errorf("created at %s: %+v", at, o)
		}
	}
	d.wantPresent(0)
	d.now = t0.Add(2 * time.Minute)
	if o := d.post(signup.UserCreated, "amara", t0.Add(2*time.Minute)); o.Result != signup.Created {
		t.Errorf("a newer signup: %+v", o)
	}
	d.wantPresent(1)
	if o := d.post(signup.UserDeleted, "amara", t0.Add(time.Minute)); o.Result != signup.Ignored {
		t.Errorf("the old deletion again: %+v", o)
	}
	d.wantPresent(1)
}

func TestMessagesOutOfOrder(t *testing.T) {
	d := newIntake(t)
	t0 := d.now
	d.now = t0.Add(3 * time.Minute)
	if o := d.post(signup.UserDeleted, "early", t0.Add(time.Minute)); o.Result != signup.Ignored {
		t.Errorf("%+v", o)
	}
	if o := d.post(signup.UserCreated, "early", t0); o.Result != signup.Ignored {
		t.Errorf("a signup that a deletion overtook: %+v", o)
	}
	// created, deleted, created again: the deletion arrives last.
	d.post(signup.UserCreated, "late", t0)
	d.post(signup.UserCreated, "late", t0.Add(2*time.Minute))
	if o := d.post(signup.UserDeleted, "late", t0.Add(time.Minute)); o.Result != signup.Ignored {
		t.Errorf("a deletion that a signup overtook: %+v", o)
	}
	d.wantPresent(1)
}

func TestOperatorsDeletionVoidsTheSignup(t *testing.T) {
	d := newIntake(t)
	o := d.post(signup.UserCreated, "amara", d.now)
	service := signup.Service{Clock: func() time.Time { return d.now }, Random: rand.Reader}
	if err := d.store.Update(t.Context(), func(tx store.Tx) error {
		_, err := service.Remove(tx, o.Instance)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if o := d.post(signup.UserCreated, "amara", d.now); o.Result != signup.Ignored {
		t.Errorf("%+v", o)
	}
	d.wantPresent(0)
}

func TestBadMessagesAreRefusedAndLeaveNothing(t *testing.T) {
	good := func(d *intake) *http.Request { return d.signed("msg_bad", event(signup.UserCreated, "amara", d.now)) }
	body := func(s string) func(d *intake) *http.Request {
		return func(d *intake) *http.Request { return d.signed("msg_bad", []byte(s)) }
	}
	for _, c := range []struct {
		name, code, detail string
		status             int
		request            func(*intake) *http.Request
	}{
		{"no signature", "signature-refused", "", 401, func(d *intake) *http.Request {
			r := good(d)
			r.Header.Del("webhook-signature")
			return r
		}},
		{"wrong signature", "signature-refused", "", 401, func(d *intake) *http.Request {
			r := good(d)
			r.Header.Set("webhook-signature", "v1,AAAA")
			return r
		}},
		{"another id", "signature-refused", "", 401, func(d *intake) *http.Request {
			r := good(d)
			r.Header.Set("webhook-id", "msg_other")
			return r
		}},
		{"old", "signature-refused", "webhook-timestamp", 401, func(d *intake) *http.Request {
			r := good(d)
			d.now = d.now.Add(5*time.Minute + time.Second)
			return r
		}},
		{"from the future", "signature-refused", "webhook-timestamp", 401, func(d *intake) *http.Request {
			r := good(d)
			d.now = d.now.Add(-5*time.Minute - time.Second)
			return r
		}},
		{"content type", "content-type", "content-type", 415, func(d *intake) *http.Request {
			r := good(d)
			r.Header.Set("Content-Type", "text/plain")
			return r
		}},
		{"too long", "body-too-large", "65536", 413, body(strings.Repeat(" ", signup.MaxBodyBytes+1))},
		{"no json", "event-invalid", "the body", 400, body("signup!")},
		{"no type", "event-invalid", "type is missing", 400, body(`{"timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a"}}`)},
		{"unknown type", "event-invalid", "type", 400, body(`{"type":"user.renamed","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a"}}`)},
		{"unknown field", "event-invalid", "admin is unknown", 400, body(`{"type":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a"},"admin":1}`)},
		{"unknown inner field", "event-invalid", "data.role is unknown", 400, body(`{"type":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a","role":1}}`)},
		{"field twice", "event-invalid", "data.user_id is there twice", 400, body(`{"type":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a","user_id":"b"}}`)},
		{"other case", "event-invalid", "type", 400, body(`{"TYPE":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a"}}`)},
		{"user is a number", "event-invalid", "data.user_id is not a string", 400, body(`{"type":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":7}}`)},
		{"user is empty", "event-invalid", "user_id is empty", 400, body(`{"type":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":""}}`)},
		{"user is no UTF-8", "event-invalid", "user_id is not UTF-8", 400, body("{\"type\":\"user.created\",\"timestamp\":\"2026-05-01T09:00:00Z\",\"data\":{\"user_id\":\"a\xff\"}}")},
		{"user is half a pair", "event-invalid", "user_id is not UTF-8", 400, body(`{"type":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a\ud800"}}`)},
		{"bad time", "event-invalid", "timestamp", 400, body(`{"type":"user.created","timestamp":"yesterday","data":{"user_id":"a"}}`)},
		{"future event", "event-invalid", "future", 400, body(`{"type":"user.deleted","timestamp":"2027-05-01T09:00:00Z","data":{"user_id":"a"}}`)},
		{"something follows", "event-invalid", "follows", 400, body(`{"type":"user.created","timestamp":"2026-05-01T09:00:00Z","data":{"user_id":"a"}} {}`)},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newIntake(t)
			w := d.do(c.request(d))
			var p problem.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatalf("no problem document: %v: %s", err, w.Body)
			}
			if w.Code != c.status || p.Status != c.status || p.Code != c.code || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("%d %+v, want %d %s %q", w.Code, p, c.status, c.code, c.detail)
			}
			if got := w.Header().Get("Content-Type"); got != problem.ContentType {
				t.Errorf("content type %q", got)
			}
			d.wantPresent(0)
			err := d.store.View(t.Context(), func(v store.Reader) error {
				_, err := v.Receipt("msg_bad")
				return err
			})
			if !errors.Is(err, orchestrator.ErrNotFound) {
				t.Errorf("a receipt was left: %v", err)
			}
		})
	}
}

func TestReusedIDWithAnotherBodyIsAConflict(t *testing.T) {
	d := newIntake(t)
	d.do(d.signed("msg_1", event(signup.UserCreated, "amara", d.now)))
	w := d.do(d.signed("msg_1", event(signup.UserCreated, "berta", d.now)))
	if w.Code != http.StatusConflict {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	d.wantPresent(1)
}

func TestOtherPathsAndMethods(t *testing.T) {
	d := newIntake(t)
	if w := d.do(httptest.NewRequest(http.MethodGet, signup.Path, nil)); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
	if w := d.do(httptest.NewRequest(http.MethodPost, "/", nil)); w.Code != http.StatusNotFound {
		t.Errorf("/: %d", w.Code)
	}
}

// A process that dies right after the commit has taken the signup in: the
// source sends again, and one instance is there, and it stands in line.
func TestCrashAfterTheCommit(t *testing.T) {
	d := newIntake(t)
	body := event(signup.UserCreated, "amara", d.now)
	d.trap = func(p failpoint.Point) {
		if p == failpoint.AfterInboxCommit {
			panic("killed")
		}
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the point was never reached")
			}
		}()
		d.do(d.signed("msg_1", body))
	}()
	if err := d.store.Close(); err != nil {
		t.Fatal(err)
	}
	d.trap = func(failpoint.Point) {}
	d.open()
	if w := d.do(d.signed("msg_1", body)); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), string(signup.Duplicate)) {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
	d.wantPresent(1)
	d.wantWaiting(d.present()[0].ID)
}

// wantWaiting checks that the row itself stands in line for room.
func (d *intake) wantWaiting(id orchestrator.InstanceID) {
	d.t.Helper()
	var line []orchestrator.Instance
	err := d.store.View(d.t.Context(), func(v store.Reader) (err error) {
		line, err = v.Admissible(10)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if len(line) != 1 || line[0].ID != id {
		d.t.Errorf("%v stand in line, want %s", line, id)
	}
}

func TestSecretsThatAreTooWeak(t *testing.T) {
	for _, s := range []string{"", "whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", "whsec_" + strings.Repeat("A", 128)} {
		if _, err := signup.ParseSecret(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

// The specification's own example of a signature.
func TestSignatureIsThatOfStandardWebhooks(t *testing.T) {
	secret, err := signup.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1614265330, 0)
	body := []byte(`{"test": 2432232314}`)
	h, err := secret.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, body)
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := h.Get("webhook-signature"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	h.Set("webhook-signature", "v1a,AAAA v1,BBBB "+want)
	if _, err := secret.Check(h, body, at); err != nil {
		t.Errorf("one of several signatures is good: %v", err)
	}
}

func FuzzParseEvent(f *testing.F) {
	now := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	f.Add(event(signup.UserCreated, "amara", now))
	f.Add([]byte(`{"type":"user.created","type":"x"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := signup.ParseEvent(body, now)
		if err != nil {
			if !errors.Is(err, signup.ErrEvent) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		again, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := signup.ParseEvent(again, now)
		if err != nil || back.User != e.User || back.Type != e.Type || !back.At.Equal(e.At) {
			t.Errorf("%+v became %+v: %v", e, back, err)
		}
	})
}
