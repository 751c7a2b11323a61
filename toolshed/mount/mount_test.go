package mount

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// place is a mount whose callers have everything.
type place struct {
	*Mount
	t    *testing.T
	mux  *http.ServeMux
	now  time.Time
	stop context.CancelFunc
}

func newPlace(t *testing.T, limits Limits) *place {
	t.Helper()
	problem.Install()
	p := &place{t: t, mux: http.NewServeMux(), now: time.Unix(0, 0)}
	config := huma.DefaultConfig("test", "1")
	config.CreateHooks = nil
	stopping, stop := context.WithCancel(t.Context())
	p.stop = stop
	site := Site{API: humago.New(p.mux, config), Mux: p.mux, Now: func() time.Time { return p.now }, Stopping: stopping}
	p.Mount = site.New("test", limits)
	return p
}

func (p *place) ask(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return p.send(r)
}

func (p *place) send(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	caller := &auth.Caller{Way: auth.WayOwner, Scopes: auth.Scopes{auth.Everything}}
	p.mux.ServeHTTP(rec, r.WithContext(auth.WithCaller(r.Context(), caller)))
	return rec
}

type bodyInput struct {
	Body struct {
		Text string `json:"text"`
	}
}

func (p *place) registerBoth() {
	huma.Register(p.API, huma.Operation{OperationID: "typed", Method: http.MethodPost, Path: "/typed", Security: auth.Needs("test:write")},
		func(context.Context, *bodyInput) (*struct{}, error) { return nil, nil })
	p.Handle("POST /raw", Route{Scope: "test:write", Accepts: []string{"application/json"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			problem.Of(http.StatusRequestEntityTooLarge, err.Error()).Write(w)
		}
	}))
}

// A body is bounded whether it says its length or not, and of a type that is
// taken.
func TestBodies(t *testing.T) {
	p := newPlace(t, Limits{BodyBytes: 100})
	p.registerBoth()
	text := func(n int) string { return `{"text":"` + strings.Repeat("x", n-11) + `"}` }
	for _, path := range []string{"/typed", "/raw"} {
		for _, c := range []struct {
			body, kind string
			said       bool
			status     int
		}{
			{text(100), "application/json", true, 0}, {text(100), "application/json; charset=utf-8", false, 0},
			{text(101), "application/json", true, 413}, {text(102), "application/json", false, 413},
			{text(100), "text/html", true, 415}, {text(100), "nonsense;;", true, 415},
		} {
			r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.kind)
			if !c.said {
				r.ContentLength = -1
			}
			rec := p.send(r)
			if c.status == 0 && rec.Code < 300 {
				continue
			}
			if rec.Code != c.status || rec.Header().Get("Content-Type") != problem.ContentType {
				t.Errorf("%s of %d bytes as %s: %d %s", path, len(c.body), c.kind, rec.Code, rec.Body)
			}
		}
	}
}

// A body that is encoded is not taken for what it is not.
func TestEncodedBodies(t *testing.T) {
	p := newPlace(t, Limits{})
	p.registerBoth()
	p.Handle("POST /passed-on", Route{Scope: "test:write", Encoded: true}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for path, want := range map[string]int{"/typed": 415, "/raw": 415, "/passed-on": 200} {
		if rec := p.ask("POST", path, `{"text":"x"}`, "Content-Type", "application/json", "Content-Encoding", "gzip"); rec.Code != want {
			t.Errorf("%s: %d %s, want %d", path, rec.Code, rec.Body, want)
		}
		if rec := p.ask("POST", path, `{"text":"x"}`, "Content-Type", "application/json", "Content-Encoding", "identity"); rec.Code >= 300 {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
}

// Who forgets to say whose a route is leaves it to the owner.
func TestForgottenScope(t *testing.T) {
	p := newPlace(t, Limits{})
	p.Handle("GET /x", Route{}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p.Handle("GET /all", Route{Public: true}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for path, want := range map[string]int{"/x": 403, "/all": 200} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		rec := httptest.NewRecorder()
		p.mux.ServeHTTP(rec, r.WithContext(auth.WithCaller(r.Context(), &auth.Caller{Scopes: auth.Scopes{"test:*"}})))
		if rec.Code != want {
			t.Errorf("%s: %d", path, rec.Code)
		}
		if said := rec.Header().Get("WWW-Authenticate"); want == 403 && !strings.Contains(said, `scope="*"`) {
			t.Errorf("%s is said to take %s", path, said)
		}
	}
}

// What is too much at once is refused with the time to wait, and what lasts
// has places of its own.
func TestInFlight(t *testing.T) {
	p := newPlace(t, Limits{InFlight: 2, Lasting: 1})
	entered, leave := make(chan struct{}), make(chan struct{})
	wait := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave })
	p.Handle("GET /short", Route{Scope: "test:read"}, wait)
	p.Handle("GET /lasting", Route{Scope: "test:read", Lasting: true}, wait)
	done := make(chan int)
	for _, path := range []string{"/short", "/short", "/lasting"} {
		go func() { done <- p.ask("GET", path, "").Code }()
		<-entered
	}
	for _, path := range []string{"/short", "/lasting"} {
		rec := p.ask("GET", path, "")
		if rec.Code != http.StatusTooManyRequests || rec.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: %d, Retry-After %q", path, rec.Code, rec.Header().Get("Retry-After"))
		}
	}
	close(leave)
	for range 3 {
		if status := <-done; status != http.StatusOK {
			t.Errorf("answered %d", status)
		}
	}
	go func() { <-entered }()
	if status := p.ask("GET", "/short", "").Code; status != http.StatusOK {
		t.Errorf("once there is a place: %d", status)
	}
}

func TestRate(t *testing.T) {
	// Who is refused keeps no place: there is one.
	p := newPlace(t, Limits{PerSecond: 0.5, Burst: 2, InFlight: 1})
	p.registerBoth()
	status := func() (int, string) {
		rec := p.ask("POST", "/typed", `{"text":""}`, "Content-Type", "application/json")
		return rec.Code, rec.Header().Get("Retry-After")
	}
	for i, want := range []int{204, 204, 429, 429} {
		if got, after := status(); got != want || (got == 429 && after != "2") {
			t.Errorf("request %d: %d, Retry-After %q", i, got, after)
		}
	}
	p.now = p.now.Add(2 * time.Second)
	for i, want := range []int{204, 429} {
		if got, _ := status(); got != want {
			t.Errorf("request %d after the wait: %d", i, got)
		}
	}
}

// What lasts ends when the server is about to, typed or not; what does not is
// let end by itself.
func TestStopping(t *testing.T) {
	p := newPlace(t, Limits{})
	entered := make(chan context.Context)
	p.Handle("GET /raw", Route{Scope: "test:read", Lasting: true}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- r.Context()
		<-r.Context().Done()
	}))
	huma.Register(p.API, Lasting(huma.Operation{OperationID: "feed", Method: http.MethodGet, Path: "/feed", Security: auth.Needs("test:read")}),
		func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			entered <- ctx
			<-ctx.Done()
			return nil, nil
		})
	leave := make(chan struct{})
	p.Handle("GET /short", Route{Scope: "test:read"}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- r.Context()
		<-leave
	}))
	done := make(chan string)
	contexts := map[string]context.Context{}
	for _, path := range []string{"/raw", "/feed", "/short"} {
		go func() { p.ask("GET", path, ""); done <- path }()
		contexts[path] = <-entered
	}
	p.stop()
	for range 2 {
		if path := <-done; path == "/short" {
			t.Error("a short one ends first")
		}
	}
	if err := contexts["/short"].Err(); err != nil {
		t.Errorf("a short one is cut off: %v", err)
	}
	close(leave)
	<-done
}

func TestPageLeadsToSignIn(t *testing.T) {
	p := newPlace(t, Limits{})
	p.Page("/test", "test:read", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	rec := httptest.NewRecorder()
	p.mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/test", nil))
	if rec.Code != http.StatusSeeOther || rec.Header().Get("Location") != "/login" {
		t.Errorf("%d %s", rec.Code, rec.Header().Get("Location"))
	}
	if rec := p.ask("GET", "/test", ""); rec.Code != http.StatusOK || p.PagePath() != "/test" {
		t.Errorf("%d, page %s", rec.Code, p.PagePath())
	}
}
