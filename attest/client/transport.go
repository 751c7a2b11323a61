package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// Transport carries an owner's requests to one machine over attested
// connections: each is verified before its first request and again once its
// trust has expired.
type Transport struct {
	Trust   Trust
	Machine *url.URL
	// Pin is what was accepted of the machine; the claim in it is required.
	Pin  Pin
	Keys Keys
	// Lifetime is how long a verification is trusted, per request.
	Lifetime time.Duration

	// mu guards idle.
	mu   sync.Mutex
	idle []*Session
}

var _ http.RoundTripper = (*Transport)(nil)

// maxIdle bounds the verified connections kept between requests.
const maxIdle = 8

// RoundTrip sends one request on a verified connection with the owner's token
// for it.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	s, err := t.session(req.Context())
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = "https", t.Machine.Host
	out.Header.Set("Authorization", s.Token(t.Keys))
	resp, err := s.Conn.RoundTrip(out)
	if err != nil {
		s.Close() //nolint:errcheck // it failed already
		return nil, fmt.Errorf("asking the machine: %w", err)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The connection is no longer one of requests, and ends with its body.
		return resp, nil
	}
	resp.Body = &returning{ReadCloser: resp.Body, done: func() { t.put(s) }}
	return resp, nil
}

// session takes an idle connection that is still trusted or opens one.
func (t *Transport) session(ctx context.Context) (*Session, error) {
	if t.Pin.Claim.IsZero() {
		return nil, fmt.Errorf("%w: no claim is pinned for %s", attest.ErrPolicy, t.Machine.Host)
	}
	for s := t.take(); s != nil; s = t.take() {
		if s.Conn.Err() == nil && t.Trust.Now().Sub(s.VerifiedAt) < t.Lifetime {
			return s, nil
		}
		s.Close() //nolint:errcheck // it is no longer trusted
	}
	return t.Trust.Connect(ctx, t.Machine, &t.Pin)
}

func (t *Transport) take() *Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) == 0 {
		return nil
	}
	s := t.idle[len(t.idle)-1]
	t.idle = t.idle[:len(t.idle)-1]
	return s
}

func (t *Transport) put(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) < maxIdle && s.Conn.Err() == nil {
		t.idle = append(t.idle, s)
		return
	}
	s.Close() //nolint:errcheck // there are enough
}

// Close ends the idle connections.
func (t *Transport) Close() {
	for s := t.take(); s != nil; s = t.take() {
		s.Close() //nolint:errcheck // nothing is lost with it
	}
}

// returning gives the connection back once the answer was read.
type returning struct {
	io.ReadCloser
	once sync.Once
	done func()
}

func (r *returning) Close() error {
	err := r.ReadCloser.Close()
	r.once.Do(r.done)
	return err
}
