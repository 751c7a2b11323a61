package adminclient

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/problem"
)

const (
	ada   = "aaaabbbbccccddddeeeeffffgg"
	grace = "aaaazzzzccccddddeeeeffffgg"
)

// An instance is meant by user or by a beginning of its id that no other has;
// a user who is called like the beginning of an id is still that user.
func TestFind(t *testing.T) {
	all := []Instance{{ID: ada, UserID: "ada"}, {ID: grace, UserID: "grace"}, {ID: "bbbb", UserID: "aaaab"}}
	for name, want := range map[string]string{"ada": ada, "grace": grace, "aaaaz": grace, "aaaab": "bbbb", "b": "bbbb"} {
		if i, err := find(all, name); err != nil || i.ID != want {
			t.Errorf("%s: instance %q, error %v, want %s", name, i.ID, err, want)
		}
	}
	for _, name := range []string{"", "x", "ad", ada + "a"} {
		if i, err := find(all, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: instance %q, error %v", name, i.ID, err)
		}
	}
	_, err := find(all, "aaaa")
	if ambiguous, ok := errors.AsType[*AmbiguousError](err); !ok || !slices.Equal(ambiguous.IDs, []string{ada, grace}) {
		t.Errorf("error %v", err)
	}
}

// What is gone is found by its whole id, and by nothing else.
func TestFindAmongTheGone(t *testing.T) {
	gone := Instance{ID: ada, UserID: "ada", State: "deleted"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer any
		switch {
		case r.URL.Path == instancePath(ada):
			answer = gone
		case r.URL.Path != instancesPath:
			problem.New(http.StatusNotFound, "not-found", "no such instance").Write(w)
			return
		case r.URL.Query().Get("deleted") == "true":
			answer = map[string]any{"instances": []Instance{gone}}
		default:
			answer = map[string]any{"instances": []Instance{{ID: grace, UserID: ada[:20] + "zzzzzz"}}}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c := &Client{Base: server.URL, Timeout: time.Minute}
	if i, err := c.Find(t.Context(), ada); err != nil || i.ID != ada {
		t.Errorf("by its id: %q, error %v", i.ID, err)
	}
	for _, name := range []string{"ada", ada[:25]} {
		if i, err := c.Find(t.Context(), name); !errors.Is(err, ErrNotFound) {
			t.Errorf("by %q: %q, error %v", name, i.ID, err)
		}
	}
	// A name of the form of an id may be a user's.
	if i, err := c.Find(t.Context(), ada[:20]+"zzzzzz"); err != nil || i.ID != grace {
		t.Errorf("by a user like an id: %q, error %v", i.ID, err)
	}
}

// No name means no release, also where there is one alone.
func TestReleaseWithoutAName(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(Releases{Releases: []Release{{Digest: "abcd"}}}); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c := &Client{Base: server.URL, Timeout: time.Minute}
	if r, err := c.FindRelease(t.Context(), "ab"); err != nil || r.Digest != "abcd" {
		t.Errorf("by its beginning: %q, error %v", r.Digest, err)
	}
	if r, err := c.FindRelease(t.Context(), ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("by no name: %q, error %v", r.Digest, err)
	}
}

// A control plane that takes the connection and never answers costs the
// timeout and no more, streams included.
func TestSilenceEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := &Client{Base: "http://" + l.Addr().String(), Timeout: 50 * time.Millisecond}
	if _, err := c.Instance(t.Context(), ada); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call: %v", err)
	}
	if _, err := c.Events(t.Context(), EventQuery{Follow: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stream: %v", err)
	}
}

// Only the beginning of a stream has a deadline.
func TestStreamOutlivesTheTimeout(t *testing.T) {
	const timeout = 100 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-time.After(2 * timeout)
		_, _ = io.WriteString(w, `{"id":7,"to":"ready"}`+"\n")
	}))
	defer server.Close()
	c := &Client{Base: server.URL, Timeout: timeout}
	events, err := c.Events(t.Context(), EventQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	if e, err := events.Next(); err != nil || e.ID != 7 || e.To != "ready" {
		t.Errorf("event %+v, error %v", e, err)
	}
	if _, err := events.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("behind the last: %v", err)
	}
}

// A refusal keeps its code, and one that is no problem document is still one.
func TestRefusals(t *testing.T) {
	answer := `{"code":"token-unknown","detail":"this bearer token is not known here"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	c := &Client{Base: server.URL}
	_, err := c.Instances(t.Context(), false)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != http.StatusUnauthorized || e.Code != "token-unknown" {
		t.Errorf("error %v", err)
	}
	answer = "<html>"
	_, err = c.Instances(t.Context(), false)
	if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != "" || !strings.Contains(refusal.Error(), "401 Unauthorized") {
		t.Errorf("error %v", err)
	}
}

// The list is read to its end, page by page.
func TestPages(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := `{"instances":[{"id":"` + ada + `"}],"next":"` + ada + `"}`
		if r.URL.Query().Get("after") == ada {
			page = `{"instances":[{"id":"` + grace + `"}]}`
		}
		_, _ = io.WriteString(w, page)
	}))
	defer server.Close()
	all, err := (&Client{Base: server.URL}).Instances(t.Context(), true)
	if err != nil || len(all) != 2 || all[1].ID != grace {
		t.Errorf("instances %v, error %v", all, err)
	}
}
