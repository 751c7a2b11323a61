package client

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// newTransport has so many idle connections that were verified just now.
func newTransport(t *testing.T, machine *url.URL, idle int) *Transport {
	t.Helper()
	tr := &Transport{
		Trust: Trust{Now: time.Now}, Machine: machine, Pin: Pin{Claim: attest.Digest{1}}, Keys: newKeys(t), Lifetime: time.Hour,
	}
	tr.init()
	for range idle {
		tr.open <- struct{}{}
		tr.idle <- &Session{Conn: dial(t, machine), VerifiedAt: time.Now()}
	}
	return tr
}

func request(t *testing.T, method string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://machine/x", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// A request that a closed connection may have carried is sent again only where
// twice is as good as once.
func TestWhatIsSentAgain(t *testing.T) {
	for name, c := range map[string]struct {
		method string
		body   io.Reader
		again  bool
	}{
		"GET":             {http.MethodGet, nil, true},
		"DELETE":          {http.MethodDelete, nil, true},
		"POST":            {http.MethodPost, nil, false},
		"PUT with a body": {http.MethodPut, strings.NewReader("x"), false},
		"GET with a body": {http.MethodGet, strings.NewReader("x"), false},
	} {
		t.Run(name, func(t *testing.T) {
			var seen atomic.Int32
			machine := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if seen.Add(1) == 1 {
					panic(http.ErrAbortHandler)
				}
				w.WriteHeader(http.StatusNoContent)
			})
			resp, err := newTransport(t, machine, 2).RoundTrip(request(t, c.method, c.body))
			if err == nil {
				resp.Body.Close()
			}
			if again := seen.Load() > 1; again != c.again || (err == nil) != c.again {
				t.Errorf("%d requests, error %v", seen.Load(), err)
			}
		})
	}
}

// A connection is given back once, however often its answer is closed.
func TestConnectionIsGivenBackOnce(t *testing.T) {
	tr := newTransport(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }), 1)
	resp, err := tr.RoundTrip(request(t, http.MethodGet, nil))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	resp.Body.Close()
	if len(tr.idle) != 1 || len(tr.open) != 1 {
		t.Fatalf("%d idle of %d open", len(tr.idle), len(tr.open))
	}
	tr.Close()
	if len(tr.idle) != 0 || len(tr.open) != 0 {
		t.Errorf("after its end %d idle of %d open", len(tr.idle), len(tr.open))
	}
}

// What takes a connection for itself leaves its place to another.
func TestUpgradeLeavesItsPlace(t *testing.T) {
	machine := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		buffered.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n") //nolint:errcheck // the client sees
		buffered.Flush()                                                                                      //nolint:errcheck // as above
		bufio.NewReader(conn).ReadByte()                                                                      //nolint:errcheck // until the client closes
	})
	tr := newTransport(t, machine, 1)
	req := request(t, http.MethodGet, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "x")
	resp, err := tr.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v, error %v", resp, err)
	}
	resp.Body.Close()
	if len(tr.idle) != 0 || len(tr.open) != 0 {
		t.Errorf("%d idle of %d open", len(tr.idle), len(tr.open))
	}
}

// A machine that cannot be reached takes no place.
func TestFailedConnectionLeavesItsPlace(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	tr := newTransport(t, &url.URL{Scheme: "https", Host: l.Addr().String()}, 0)
	if resp, err := tr.RoundTrip(request(t, http.MethodGet, nil)); err == nil {
		resp.Body.Close()
		t.Error("nobody answered")
	}
	if len(tr.open) != 0 || len(tr.opening) != 0 {
		t.Errorf("%d open, %d opening", len(tr.open), len(tr.opening))
	}
}
