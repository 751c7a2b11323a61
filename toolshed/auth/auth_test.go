package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

var owner = strings.Repeat("ab", 32)

// world is a server with one API, its tokens and its clock.
type world struct {
	t      *testing.T
	tokens *Keeper
	db     *store.DB
	now    time.Time
	guard  *Guard
	// seen is the last request that passed.
	seen http.Header
	http.Handler
}

func newWorld(t *testing.T) *world {
	t.Helper()
	problem.Install()
	d, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if w.db, err = d.Open(t.Context(), Schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	w.tokens = w.load()
	w.guard = &Guard{Tokens: w.tokens}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("test", "1")
	config.CreateHooks = nil
	api := humago.New(mux, config)
	api.UseMiddleware(Middleware)
	Register(api, w.tokens)
	huma.Register(api, huma.Operation{OperationID: "forgotten", Method: http.MethodGet, Path: "/forgotten"},
		func(context.Context, *struct{}) (*struct{}, error) { return nil, nil })
	mux.Handle("/raw", Require("kv:write", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { w.seen = r.Header })))
	w.Handler = w.guard.Identify(mux)
	return w
}

func (w *world) load() *Keeper {
	w.t.Helper()
	k, err := NewKeeper(w.t.Context(), w.db, func() time.Time { return w.now }, rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) mint(expires time.Time, scopes ...Scope) string {
	w.t.Helper()
	text, _, err := w.tokens.Mint(w.t.Context(), "", "test", scopes, expires)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// ask sends a request with headers, a name and a value each.
func (w *world) ask(method, path, body string, header ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	return rec
}

func (w *world) want(status int, code string, rec *httptest.ResponseRecorder) {
	w.t.Helper()
	var p problem.Problem
	if code != "" {
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil {
			w.t.Errorf("no problem: %v: %s", err, rec.Body)
		}
	}
	if rec.Code != status || p.Code != code {
		w.t.Errorf("answered %d %s, want %d %s: %s", rec.Code, p.Code, status, code, rec.Body)
	}
}

func TestScopes(t *testing.T) {
	for _, c := range []struct {
		have, want Scope
		covers     bool
	}{
		{"*", "kv:read", true}, {"*", "kv:*", true}, {"*", "*", true},
		{"kv:*", "kv:read", true}, {"kv:*", "kv:*", true}, {"kv:*", "*", false}, {"kv:*", "kvx:read", false},
		{"kv:read", "kv:read", true}, {"kv:read", "kv:write", false}, {"kv:read", "kv:*", false}, {"kv:read", "*", false},
	} {
		if c.have.Covers(c.want) != c.covers {
			t.Errorf("%s covers %s: %t", c.have, c.want, !c.covers)
		}
	}
	for _, text := range []string{"", "kv", "kv:", ":read", "*:read", "kv:read ", "KV:read", "kv:read:more", "a b:c", strings.Repeat("k", 40) + ":r"} {
		if s, err := ParseScope(text); err == nil {
			t.Errorf("%q is %s", text, s)
		}
	}
}

// An operation that does not say its scope is for who may do everything alone.
func TestDeclared(t *testing.T) {
	for name, c := range map[string]struct {
		security []map[string][]string
		want     Scopes
	}{
		"nothing":        {nil, Scopes{Everything}},
		"no scope":       {[]map[string][]string{{SecurityScheme: {}}}, Scopes{Everything}},
		"another scheme": {[]map[string][]string{{"other": {"kv:read"}}}, Scopes{Everything}},
		"public":         {Public(), nil},
		"one":            {Needs("kv:read"), Scopes{"kv:read"}},
	} {
		if got := declared(&huma.Operation{Security: c.security}); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{"*", "kv:read", "kv:*", "kv", "*:*", "kv:read "} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScope(text)
		if err != nil {
			return
		}
		if string(s) != text || !s.Covers(s) || !Everything.Covers(s) || strings.ContainsAny(text, " \t\n\"") {
			t.Errorf("%q is %q", text, s)
		}
	})
}

// Each way in, and what each operation asks of it.
func TestWays(t *testing.T) {
	w := newWorld(t)
	all, reads, other := w.mint(time.Time{}, "*"), w.mint(time.Time{}, "kv:read"), w.mint(time.Time{}, "kv:write")
	bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
	for _, c := range []struct {
		name, path string
		header     []string
		status     int
		code       string
	}{
		{"nobody", "/raw", nil, 401, "unauthenticated"},
		{"all", "/raw", bearer(all), 200, ""},
		{"the scope itself", "/raw", bearer(other), 200, ""},
		{"any case", "/raw", []string{"Authorization", "bearer  " + other}, 200, ""},
		{"another scope", "/raw", bearer(reads), 403, "scope-missing"},
		{"a wrong secret", "/raw", bearer(all[:len(all)-1] + "7"), 401, "unauthenticated"},
		{"an unknown id", "/raw", bearer("shed_" + strings.Repeat("a", 26) + "_" + strings.Repeat("a", 52)), 401, "unauthenticated"},
		{"a short one", "/raw", bearer("shed_a_b"), 401, "unauthenticated"},
		{"another's token", "/raw", bearer("sk-something"), 401, "unauthenticated"},
		{"a cookie", "/raw", []string{"Cookie", CookieName + "=" + all}, 200, ""},
		{"a wrong cookie", "/raw", []string{"Cookie", CookieName + "=x"}, 401, "unauthenticated"},
		{"the agent's word, alone", "/raw", []string{OwnerHeader, owner}, 401, "unauthenticated"},
		{"an operation that declares nothing", "/forgotten", bearer(reads), 403, "scope-missing"},
		{"the same, for who may do everything", "/forgotten", bearer(all), 204, ""},
		{"the same, for nobody", "/forgotten", nil, 401, "unauthenticated"},
		{"a typed operation", "/api/auth/tokens", bearer(reads), 403, "scope-missing"},
		{"whoami", "/api/whoami", nil, 401, "unauthenticated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			w.want(c.status, c.code, w.ask("GET", c.path, "", c.header...))
		})
	}
	w.t = t
	if got := w.ask("GET", "/raw", "").Header().Get("WWW-Authenticate"); got != `Bearer scope="kv:write"` {
		t.Errorf("asks with %s", got)
	}
	w.guard.BehindAgent = true
	w.want(200, "", w.ask("GET", "/raw", "", OwnerHeader, owner))
	w.want(200, "", w.ask("GET", "/raw", "", OwnerHeader, owner, "Authorization", "Bearer sk-something"))
	w.want(401, "unauthenticated", w.ask("GET", "/raw", "", OwnerHeader, "me"))
	// A token of ours is what counts where there is one.
	w.want(403, "scope-missing", w.ask("GET", "/raw", "", OwnerHeader, owner, "Authorization", "Bearer "+reads))
}

// No secret of ours goes on to an API, and what is not ours does.
func TestSecretsGoNoFurther(t *testing.T) {
	w := newWorld(t)
	all := w.mint(time.Time{}, "*")
	w.want(200, "", w.ask("GET", "/raw", "", "Authorization", "Bearer "+all, OwnerHeader, owner, "Cookie", "a=1; "+CookieName+"="+all+"; b=2"))
	if w.seen.Get("Authorization") != "" || w.seen.Get(OwnerHeader) != "" || w.seen.Get("Cookie") != "a=1; b=2" {
		t.Errorf("an API is given %v", w.seen)
	}
	w.guard.BehindAgent = true
	w.want(200, "", w.ask("GET", "/raw", "", "Authorization", "Bearer other", OwnerHeader, owner))
	if w.seen.Get("Authorization") != "Bearer other" || w.seen.Get(OwnerHeader) != "" {
		t.Errorf("an API is given %v", w.seen)
	}
}

// What a page of another site makes a browser send changes nothing.
func TestCrossSite(t *testing.T) {
	w := newWorld(t)
	w.guard.BehindAgent = true
	all := w.mint(time.Time{}, "*")
	cookie, agent := []string{"Cookie", CookieName + "=" + all}, []string{OwnerHeader, owner}
	for _, way := range [][]string{cookie, agent} {
		for _, site := range []string{"cross-site", "same-site"} {
			from := append([]string{"Sec-Fetch-Site", site}, way...)
			w.want(403, "cross-site", w.ask("POST", "/raw", "", from...))
			w.want(200, "", w.ask("GET", "/raw", "", from...))
			w.want(403, "cross-site", w.ask("GET", "/raw", "", append(from, "Upgrade", "websocket", "Connection", "Upgrade")...))
		}
		w.want(403, "cross-site", w.ask("POST", "/raw", "", append([]string{"Origin", "https://elsewhere.example"}, way...)...))
		w.want(200, "", w.ask("POST", "/raw", "", append([]string{"Sec-Fetch-Site", "same-origin"}, way...)...))
		w.want(200, "", w.ask("POST", "/raw", "", way...))
	}
	// A browser sends no token by itself.
	w.want(200, "", w.ask("POST", "/raw", "", "Sec-Fetch-Site", "cross-site", "Authorization", "Bearer "+all))
}

func TestTokensEnd(t *testing.T) {
	w := newWorld(t)
	text := w.mint(w.now.Add(time.Hour), "kv:write")
	w.want(200, "", w.ask("GET", "/raw", "", "Authorization", "Bearer "+text))
	w.now = w.now.Add(time.Hour)
	w.want(401, "unauthenticated", w.ask("GET", "/raw", "", "Authorization", "Bearer "+text))
	if w.guard.Cookie(text) != nil {
		t.Error("a cookie of a token that has ended")
	}
}

// The operations on tokens: who makes one gives no more than they have.
func TestTokenOperations(t *testing.T) {
	w := newWorld(t)
	first, err := w.tokens.First(t.Context())
	if err != nil || first == "" {
		t.Fatal(first, err)
	}
	if again, err := w.tokens.First(t.Context()); err != nil || again != "" {
		t.Errorf("a second first token %q, error %v", again, err)
	}
	mint := func(by, body string) *httptest.ResponseRecorder {
		return w.ask("POST", "/api/auth/tokens", body, "Authorization", "Bearer "+by)
	}
	narrow := mint(first, `{"name":"narrow","scopes":["auth:write","kv:*"],"expires":"2026-01-02T04:04:05Z"}`)
	w.want(201, "", narrow)
	var made struct {
		Token, ID, Name string
		Scopes          []string
		Expires         time.Time
	}
	if err := json.Unmarshal(narrow.Body.Bytes(), &made); err != nil || made.Name != "narrow" || len(made.Scopes) != 2 || made.ID == "" ||
		!made.Expires.Equal(w.now.Add(time.Hour)) || narrow.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%v: %s", err, narrow.Body)
	}
	heir := mint(made.Token, `{"name":"n","scopes":["kv:read"]}`)
	w.want(201, "", heir)
	if !strings.Contains(heir.Body.String(), `"expires":"2026-01-02T04:04:05Z"`) {
		t.Errorf("the token of one that ends does not end with it: %s", heir.Body)
	}
	w.want(403, "scope-missing", mint(made.Token, `{"name":"n","scopes":["kv:read","queue:read"]}`))
	w.want(403, "scope-missing", mint(made.Token, `{"name":"n","scopes":["*"]}`))
	w.want(403, "too-late", mint(made.Token, `{"name":"n","scopes":["kv:read"],"expires":"2027-01-02T04:04:05Z"}`))
	for body, names := range map[string]string{
		`{"name":"n","scopes":["kv"]}`:                                  "body.scopes[0]",
		`{"name":"n","scopes":[]}`:                                      "",
		`{"name":"","scopes":["*"]}`:                                    "",
		`{"scopes":["*"]}`:                                              "",
		`{"name":"n","scopes":["*"],"expires":"2020-01-02T04:04:05Z"}`:  "body.expires",
		`{"name":"n","scopes":["*"],"expires":"tomorrow"}`:              "",
		`{"name":"n","scopes":["*"],"other":1}`:                         "",
		`{"name":"n","scopes":[` + strings.Repeat(`"*",`, 70) + `"*"]}`: "",
		`{"name":"` + strings.Repeat("n", 101) + `","scopes":["*"]}`:    "",
	} {
		rec := mint(first, body)
		w.want(422, "unprocessable-entity", rec)
		if !strings.Contains(rec.Body.String(), names) {
			t.Errorf("%s does not name %s", rec.Body, names)
		}
	}
	list := w.ask("GET", "/api/auth/tokens", "", "Authorization", "Bearer "+first)
	w.want(200, "", list)
	for _, text := range []string{first, made.Token} {
		if bytes.Contains(list.Body.Bytes(), []byte(text)) {
			t.Error("the list shows a secret")
		}
	}
	if n := strings.Count(list.Body.String(), `"id"`); n != 3 {
		t.Errorf("%d tokens: %s", n, list.Body)
	}
	// What is kept is what was made, and holds no secret.
	if _, ok := w.load().find(made.Token); !ok {
		t.Error("a token is forgotten")
	}
	remove := func(id string) *httptest.ResponseRecorder {
		return w.ask("DELETE", "/api/auth/tokens/"+id, "", "Authorization", "Bearer "+first)
	}
	w.want(204, "", remove(made.ID))
	w.want(404, "not-found", remove(made.ID))
	w.want(401, "unauthenticated", mint(made.Token, `{"name":"n","scopes":["kv:read"]}`))
	if _, ok := w.load().find(made.Token); ok {
		t.Error("a revoked token is back")
	}
}

func TestWhoami(t *testing.T) {
	w := newWorld(t)
	w.guard.BehindAgent = true
	for want, header := range map[string][]string{
		`"way":"owner","owner":"` + owner + `","scopes":["*"]`: {OwnerHeader, owner},
		`"name":"test","scopes":["kv:read"]`:                   {"Authorization", "Bearer " + w.mint(time.Time{}, "kv:read")},
		`"way":"cookie"`:                                       {"Cookie", CookieName + "=" + w.mint(time.Time{}, "kv:read")},
	} {
		if rec := w.ask("GET", "/api/whoami", "", header...); rec.Code != 200 || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%d %s, want %s", rec.Code, rec.Body, want)
		}
	}
}

// A token ends with the one that it was made with, through any number of them,
// and after a start too; others stay.
func TestTokensEndWithTheirMaker(t *testing.T) {
	w := newWorld(t)
	mint := func(by string) (token, id string) {
		t.Helper()
		rec := w.ask("POST", "/api/auth/tokens", `{"name":"n","scopes":["auth:*"]}`, "Authorization", "Bearer "+by)
		var made struct{ Token, ID string }
		if err := json.Unmarshal(rec.Body.Bytes(), &made); err != nil || rec.Code != 201 {
			t.Fatal(rec.Code, rec.Body, err)
		}
		return made.Token, made.ID
	}
	first := w.mint(time.Time{}, Everything)
	parent, id := mint(first)
	child, _ := mint(parent)
	grandchild, _ := mint(child)
	other, _ := mint(first)
	w.tokens = w.load()
	if err := w.tokens.Revoke(t.Context(), "", id); err != nil {
		t.Fatal(err)
	}
	for _, tokens := range []*Keeper{w.tokens, w.load()} {
		for text, stays := range map[string]bool{first: true, parent: false, child: false, grandchild: false, other: true} {
			if _, ok := tokens.find(text); ok != stays {
				t.Errorf("a token is there: %t, want %t", ok, stays)
			}
		}
	}
	if _, _, err := w.tokens.Mint(t.Context(), id, "n", Scopes{"*"}, time.Time{}); !errors.Is(err, ErrNoToken) {
		t.Errorf("made with one that has ended: %v", err)
	}
}

// A token ends itself and what came of it, and neither its maker nor a stranger.
func TestWhoEndsATokenWithoutEveryScope(t *testing.T) {
	w := newWorld(t)
	mint := func(by string) string {
		t.Helper()
		_, made, err := w.tokens.Mint(t.Context(), by, "n", Scopes{"auth:*"}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	maker, stranger := mint(""), mint("")
	token := mint(maker)
	child := mint(token)
	grandchild := mint(child)
	for name, id := range map[string]string{"its maker": maker, "a stranger": stranger} {
		if err := w.tokens.Revoke(t.Context(), token, id); !errors.Is(err, ErrNotOurs) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := w.tokens.Revoke(t.Context(), token, grandchild); err != nil {
		t.Errorf("what came of it: %v", err)
	}
	if err := w.tokens.Revoke(t.Context(), child, child); err != nil {
		t.Errorf("itself: %v", err)
	}
	if n := len(w.tokens.List()); n != 3 {
		t.Errorf("%d tokens are left", n)
	}
}

// What lasts ends with its token: as it is revoked or expires, at once where it
// was, and not after it was left.
func TestWhatLastsEndsWithItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tokens.now = time.Now
		mint := func(expires time.Time) string {
			t.Helper()
			_, made, err := w.tokens.Mint(t.Context(), "", "n", Scopes{"kv:read"}, expires)
			if err != nil {
				t.Fatal(err)
			}
			return made.ID
		}
		ended := map[string]*atomic.Bool{}
		follow := func(name, id string) (leave func()) {
			ended[name] = new(atomic.Bool)
			return w.tokens.follow(id, func() { ended[name].Store(true) })
		}
		want := func(names ...string) {
			t.Helper()
			synctest.Wait()
			for name, b := range ended {
				if b.Load() != slices.Contains(names, name) {
					t.Errorf("%s has ended: %t", name, b.Load())
				}
			}
		}
		revoked, expires, stays := mint(time.Time{}), mint(time.Now().Add(time.Minute)), mint(time.Time{})
		follow("one", revoked)
		follow("another of the same token", revoked)
		follow("one that expires", expires)
		follow("one that stays", stays)
		follow("one that was left", revoked)()
		follow("one that was left before it expired", expires)()
		want()
		if err := w.tokens.Revoke(t.Context(), "", revoked); err != nil {
			t.Fatal(err)
		}
		want("one", "another of the same token")
		follow("one that came too late", revoked)
		want("one", "another of the same token", "one that came too late")
		<-time.After(time.Minute - 1)
		want("one", "another of the same token", "one that came too late")
		<-time.After(1)
		want("one", "another of the same token", "one that came too late", "one that expires")
		if err := w.tokens.Revoke(t.Context(), "", expires); err != nil {
			t.Fatal(err)
		}
		want("one", "another of the same token", "one that came too late", "one that expires")
	})
}

func TestTokensAreCapped(t *testing.T) {
	w := newWorld(t)
	for i := len(w.tokens.tokens); i < maxTokens; i++ {
		w.tokens.tokens[strings.Repeat("x", i+1)] = Token{}
	}
	if _, _, err := w.tokens.Mint(t.Context(), "", "n", Scopes{"*"}, time.Time{}); !errors.Is(err, ErrTooManyTokens) {
		t.Errorf("error %v", err)
	}
}

// What stands in a request may be anything.
func FuzzIdentify(f *testing.F) {
	for _, s := range []string{"", "Bearer shed_", "Bearer shed_a_b", "Basic eDp5", "bearer  shed_" + strings.Repeat("a", 26) + "_" + strings.Repeat("a", 52)} {
		f.Add(s, s, CookieName+"="+s)
	}
	f.Fuzz(func(t *testing.T, authorization, owner, cookie string) {
		g := &Guard{Tokens: &Keeper{now: time.Now, tokens: map[string]Token{}}}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header = http.Header{"Authorization": {authorization}, OwnerHeader: {owner}, "Cookie": {cookie}}
		if id := g.identify(r); id.caller != nil || id.reason == "" {
			t.Errorf("known as %v", id.caller)
		}
	})
}
