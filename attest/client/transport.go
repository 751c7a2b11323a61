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
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Transport carries requests to one machine over attested connections: each is
// verified before its first request and again once its trust has expired. A
// hundred requests at once share a few connections.
type Transport struct {
	Trust   Trust
	Machine *url.URL
	// Pin is what was accepted of the machine; zero for a first contact. With
	// Keys the claim in it is required.
	Pin Pin
	// Keys are the owner's, whose requests bear a token; without them requests
	// go as they are.
	Keys Keys
	// Lifetime is how long a verification is trusted, per request.
	Lifetime time.Duration

	// once makes the channels.
	once sync.Once
	// open holds a token for each connection, opening one for each that is
	// being verified, idle the verified ones that carry no request.
	open    chan struct{}
	opening chan struct{}
	idle    chan *Session
}

var _ http.RoundTripper = (*Transport)(nil)

const (
	// maxOpen bounds the connections to one machine, which takes few from one
	// source: requests beyond it wait for one that is free.
	maxOpen = 32
	// maxOpening bounds the verifications at once, each of which makes the TPM
	// work. A request that waits takes what is verified or freed first.
	maxOpening = 2
)

func (t *Transport) init() {
	t.once.Do(func() {
		t.open = make(chan struct{}, maxOpen)
		t.opening = make(chan struct{}, maxOpening)
		t.idle = make(chan *Session, maxOpen)
	})
}

// RoundTrip sends one request on a verified connection with the owner's token
// for it. Errors are those of Trust.Connect and the network's, and
// attest.ErrPolicy where no claim is pinned.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.roundTrip(req)
	if err != nil && req.Body != nil {
		// It may never have come to a connection, which would have closed it.
		req.Body.Close() //nolint:errcheck // what is sent is over either way
	}
	return resp, err
}

func (t *Transport) roundTrip(req *http.Request) (*http.Response, error) {
	if t.Keys.Owner != nil && t.Pin.Claim.IsZero() {
		return nil, fmt.Errorf("%w: no claim is pinned for %s", attest.ErrPolicy, t.Machine.Host)
	}
	t.init()
	for {
		s, used, err := t.session(req.Context())
		if err != nil {
			return nil, err
		}
		resp, err := t.send(s, req)
		if err == nil {
			return resp, nil
		}
		t.drop(s)
		// A machine may have closed a connection that lay idle.
		if !used || req.Body != nil || !idempotent(req.Method) || req.Context().Err() != nil {
			return nil, fmt.Errorf("asking the machine: %w", err)
		}
	}
}

// idempotent reports whether a request without a body may be sent twice
// (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
		return true
	}
	return false
}

func (t *Transport) send(s *Session, req *http.Request) (*http.Response, error) {
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = "https", t.Machine.Host
	if t.Keys.Owner != nil {
		out.Header.Set(ownership.Header, s.Token(t.Keys))
	}
	resp, err := s.Conn.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The connection is no longer one of requests, and ends with its body,
		// which is the connection: the proxy in front writes to it.
		<-t.open
		return resp, nil
	}
	resp.Body = &returning{ReadCloser: resp.Body, done: func() { t.put(s) }}
	return resp, nil
}

// session takes an idle connection that is still trusted, or opens one where
// there is room. used says that it carried requests before.
func (t *Transport) session(ctx context.Context) (s *Session, used bool, err error) {
	for {
		// What is idle comes first: select alone would pick at random.
		select {
		case s = <-t.idle:
		default:
			select {
			case s = <-t.idle:
			case t.opening <- struct{}{}:
				s, used, err = t.connect(ctx)
				<-t.opening
				if !used || err != nil {
					return s, used, err
				}
			case <-ctx.Done():
				return nil, false, ctx.Err()
			}
		}
		if t.trusted(s) {
			return s, true, nil
		}
		t.drop(s)
	}
}

// connect opens a connection where there is room for one; otherwise it waits
// for one that is idle, which may no longer be trusted.
func (t *Transport) connect(ctx context.Context) (s *Session, used bool, err error) {
	select {
	case t.open <- struct{}{}:
	case s := <-t.idle:
		return s, true, nil
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	if s, err = t.Trust.Connect(ctx, t.Machine, t.pin()); err != nil {
		<-t.open
	}
	return s, false, err
}

func (t *Transport) pin() *Pin {
	if len(t.Pin.AK) == 0 {
		return nil
	}
	return &t.Pin
}

func (t *Transport) trusted(s *Session) bool {
	return s.Conn.Free() && age(t.Trust.Now(), s.VerifiedAt) < t.Lifetime
}

// age is how old a verification is by the clock that says more: the one that only
// runs stands still while the computer sleeps, and the wall's can be set back.
func age(now, verified time.Time) time.Duration {
	return max(now.Sub(verified), now.Round(0).Sub(verified.Round(0)))
}

func (t *Transport) drop(s *Session) {
	s.Close() //nolint:errcheck // it is no longer trusted, or failed already
	<-t.open
}

// put gives a connection back. There is room: each has a token in open. One
// that its answer ended is closed a moment after the answer was read, and until
// then shows no error.
func (t *Transport) put(s *Session) {
	if !s.Conn.Free() {
		t.drop(s)
		return
	}
	t.idle <- s
}

// Close ends the idle connections.
func (t *Transport) Close() {
	t.init()
	for {
		select {
		case s := <-t.idle:
			t.drop(s)
		default:
			return
		}
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
