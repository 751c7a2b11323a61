package problem_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest/problem"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	w := httptest.NewRecorder()
	problem.New(http.StatusConflict, "claimed", "this machine has an owner already").Write(w)
	if got := w.Header().Get("Content-Type"); got != problem.ContentType || w.Code != http.StatusConflict {
		t.Errorf("%d %s", w.Code, got)
	}
	p, err := problem.Parse(w.Code, w.Body.Bytes())
	if err != nil || p.Code != "claimed" || p.Status != http.StatusConflict || p.Title != "Conflict" {
		t.Errorf("%+v, error %v", p, err)
	}
	if got := w.Header().Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options is %q: a browser may take a detail for a page", got)
	}
}

// The status line is the answer's, whatever its body claims.
func TestStatusIsNotTheBodysToSay(t *testing.T) {
	p, err := problem.Parse(http.StatusServiceUnavailable, []byte(`{"status":200,"detail":"busy"}`))
	if err != nil || p.Status != http.StatusServiceUnavailable {
		t.Errorf("%+v, error %v", p, err)
	}
}

func TestWhatIsNoProblem(t *testing.T) {
	for _, body := range []string{"", "<html>", `{"title":"x"}`, `{"detail":"` + strings.Repeat("x", problem.MaxBytes) + `"}`} {
		if p, err := problem.Parse(500, []byte(body)); !errors.Is(err, problem.ErrNone) {
			t.Errorf("%.20q is %+v, error %v", body, p, err)
		}
	}
}

func TestRoutes(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /a", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for _, c := range []struct {
		method, path, allow string
		status              int
	}{
		{http.MethodPost, "/a", "", http.StatusNoContent},
		{http.MethodGet, "/a", "POST", http.StatusMethodNotAllowed},
		{http.MethodGet, "/b", "", http.StatusNotFound},
	} {
		w := httptest.NewRecorder()
		problem.Routes(mux).ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.status || w.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: %d, allow %q", c.method, c.path, w.Code, w.Header().Get("Allow"))
		}
		if _, err := problem.Parse(w.Code, w.Body.Bytes()); c.status >= 400 && err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
	}
}

func TestMethodNotAllowed(t *testing.T) {
	w := httptest.NewRecorder()
	problem.MethodNotAllowed(http.MethodPost, http.MethodGet)(w, httptest.NewRequest(http.MethodDelete, "/", nil))
	if got := w.Header().Get("Allow"); got != "GET, HEAD, POST" || w.Code != http.StatusMethodNotAllowed {
		t.Errorf("%d, allow %q", w.Code, got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"about:blank","title":"Conflict","status":409,"code":"claimed","detail":"it has an owner"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := problem.Parse(http.StatusConflict, body)
		if err != nil {
			if !errors.Is(err, problem.ErrNone) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if p.Status != http.StatusConflict || p.Detail == "" || len(body) > problem.MaxBytes {
			t.Errorf("%+v", p)
		}
	})
}
