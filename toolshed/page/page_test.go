package page

import (
	"embed"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

//go:embed assets layout.html
var both embed.FS

// A page is escaped, is loaded from here alone, is framed by nobody, and is not
// kept: it shows what is the owner's.
func TestPage(t *testing.T) {
	rec := httptest.NewRecorder()
	if err := New("A title", "/script.js", `<p>{{.}}</p>`).Write(rec, http.StatusTeapot, "<script>"); err != nil {
		t.Fatal(err)
	}
	h := rec.Header()
	if rec.Code != http.StatusTeapot || !strings.Contains(rec.Body.String(), "<p>&lt;script&gt;</p>") || !strings.Contains(rec.Body.String(), "A title") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	for _, part := range []string{
		"default-src 'none'", "style-src 'self'", "script-src 'self'", "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
	} {
		if !strings.Contains(h.Get("Content-Security-Policy"), part) {
			t.Errorf("the policy lacks %s: %s", part, h.Get("Content-Security-Policy"))
		}
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Content-Type": "text/html; charset=utf-8",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q", name, h.Get(name))
		}
	}
	rec = httptest.NewRecorder()
	if err := New("A title", "", `{{.Nothing}}`).Write(rec, http.StatusOK, struct{}{}); err == nil || rec.Body.Len() != 0 {
		t.Errorf("half a page: %v, %s", err, rec.Body)
	}
}

// A file is answered by its last name alone, and is not sent to who has it.
func TestAssets(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /assets/{name}", Assets())
	mux.Handle("GET /both/{name}", AssetsOf(both, "assets"))
	mux.Handle("GET /none/{name}", AssetsOf(embed.FS{}, "assets"))
	ask := func(path, has string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("If-None-Match", has)
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, r)
		return rec
	}
	style := ask("/assets/style.css", `"another"`)
	if style.Code != 200 || !strings.HasPrefix(style.Header().Get("Content-Type"), "text/css") || style.Body.Len() == 0 || style.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("%d %v", style.Code, style.Header())
	}
	if again := ask("/assets/style.css", style.Header().Get("ETag")); again.Code != 304 || again.Body.Len() != 0 {
		t.Errorf("%d to who has it", again.Code)
	}
	for _, path := range []string{"/assets/nothing", "/assets/..%2Flayout.html", "/both/..%2Flayout.html", "/none/style.css"} {
		if rec := ask(path, ""); rec.Code != 404 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}
