package stream

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// An answer begins with what it sends first; until then another can be given.
func TestAnswersBeginLate(t *testing.T) {
	rec := httptest.NewRecorder()
	s := New(rec, true)
	if err := s.Value(make(chan int)); err == nil || s.Begun() {
		t.Errorf("what cannot be encoded: %v, begun %t", err, s.Begun())
	}
	http.Error(rec, "no", http.StatusTeapot)
	if rec.Code != http.StatusTeapot || rec.Header().Get("Content-Type") == Events {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

// Both forms hold the same values, and nothing that a reader takes for one.
func TestForms(t *testing.T) {
	for name, c := range map[string]struct {
		events     bool
		kind, want string
	}{
		"lines":  {false, Lines, "{\"a\":\"x\\ny\"}\n\n[DONE]\n"},
		"events": {true, Events, "data: {\"a\":\"x\\ny\"}\n\n: still here\n\ndata: [DONE]\n\n"},
	} {
		rec := httptest.NewRecorder()
		s := New(rec, c.events)
		s.Patience = time.Second
		for _, err := range []error{s.Value(map[string]string{"a": "x\ny"}), s.Idle(), s.Text("[DONE]")} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if rec.Body.String() != c.want || rec.Header().Get("Content-Type") != c.kind || !rec.Flushed || !s.Begun() {
			t.Errorf("%s: %v %q", name, rec.Header(), rec.Body)
		}
	}
}

func TestEvents(t *testing.T) {
	rec := httptest.NewRecorder()
	s := New(rec, true)
	for _, err := range []error{s.Retry(2 * time.Second), s.Event("7", "message", 1), s.Event("", "gap", nil)} {
		if err != nil {
			t.Error(err)
		}
	}
	const want = "retry: 2000\n\nid: 7\nevent: message\ndata: 1\n\nevent: gap\ndata: null\n\n"
	if rec.Body.String() != want {
		t.Errorf("%q", rec.Body)
	}
}

// A reader that is gone is told of, whether writing or sending shows it.
func TestGone(t *testing.T) {
	for name, w := range map[string]http.ResponseWriter{"writing": &goneWriter{write: errGone}, "sending": &goneWriter{flush: errGone}} {
		s := New(w, false)
		if err := s.Value(1); !errors.Is(err, errGone) {
			t.Errorf("%s a value: %v", name, err)
		}
		if err := s.Idle(); !errors.Is(err, errGone) {
			t.Errorf("%s nothing: %v", name, err)
		}
	}
}

var errGone = errors.New("gone")

// goneWriter is an answer whose reader has left.
type goneWriter struct{ write, flush error }

func (g *goneWriter) Header() http.Header { return http.Header{} }

func (g *goneWriter) WriteHeader(int) {}

func (g *goneWriter) Write(b []byte) (int, error) { return len(b), g.write }

func (g *goneWriter) FlushError() error { return g.flush }
