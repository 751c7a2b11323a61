package agent_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/toolshed-cloud/shed/attest/client"
)

// An answer that is given up, or that ends its connection because the payload
// left the request unread, fails no other request: the next one has no second
// try, since it has a body.
func TestAnswersThatEndTheirConnection(t *testing.T) {
	m, keys, pin := claimed(t)
	through := newTransport(m, keys, pin)
	defer through.Close()
	ask := func(method, path string, body int) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, m.url.String()+path, strings.NewReader(strings.Repeat("x", body)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := through.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		return resp
	}
	ended := 0
	for range 40 {
		ask(http.MethodGet, "/long", 0).Body.Close()
		resp := ask(http.MethodPost, "/x", 3<<20)
		if resp.Close {
			ended++
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		ask(http.MethodPost, "/x", 1).Body.Close()
	}
	if ended == 0 {
		t.Error("no answer ended its connection")
	}
}

// closing is a body that says when it was closed.
type closing struct {
	io.Reader
	closed atomic.Bool
}

func (c *closing) Close() error { c.closed.Store(true); return nil }

// Whatever comes of a request, its body is closed: http.RoundTripper's contract.
func TestBodyIsClosed(t *testing.T) {
	m, keys, pin := claimed(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx context.Context
		pin client.Pin
	}{
		"no claim": {t.Context(), client.Pin{AK: pin.AK, EK: pin.EK}},
		"given up": {ended, pin},
	} {
		through := newTransport(m, keys, c.pin)
		body := &closing{Reader: strings.NewReader("something")}
		req, err := http.NewRequestWithContext(c.ctx, http.MethodPost, m.url.String()+"/x", body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := through.RoundTrip(req); err == nil {
			t.Errorf("%s: it was answered", name)
		}
		if !body.closed.Load() {
			t.Errorf("%s: its body is open", name)
		}
		through.Close()
	}
}
