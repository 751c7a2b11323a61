package ingress

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/problem"
)

// serving is a machine with an owner, whose payload answers once wait returns.
type serving struct {
	owned
	wait func()
}

func (m serving) RoundTrip(r *http.Request) (*http.Response, error) {
	m.wait()
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader([]byte("payload"))),
	}, nil
}

func newClaim(t *testing.T, nonce attest.Nonce) (*ownership.Claim, ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ownership.Sign(key, ownership.Body{
		AKName: make([]byte, 34), Nonce: nonce, Update: ownership.UpdatePolicy{Consent: ownership.UpdateAsk, Keys: [][]byte{{1}}}, Recovery: [32]byte{9},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func dial(t *testing.T, address string) *channel.Conn {
	t.Helper()
	conn, err := channel.Dial(t.Context(), &url.URL{Scheme: "https", Host: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// ask sends a GET with a token where one is given, and answers the body or the
// problem's code.
func ask(t *testing.T, conn *channel.Conn, path, token string) (body, code string) {
	t.Helper()
	req, err := conn.Request(t.Context(), http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set(ownership.Header, token)
	}
	b, err := conn.Do(req, 1<<12)
	return string(b), codeOf(t, err)
}

func codeOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var status *channel.StatusError
	if !errors.As(err, &status) {
		t.Fatal(err)
	}
	p, err := problem.Parse(status.Code, status.Body)
	if err != nil {
		t.Fatal(err)
	}
	return p.Code
}

// What is the owner's takes the owner's token for this very connection.
func TestOwnersPaths(t *testing.T) {
	c, key := newClaim(t, attest.Nonce{1})
	_, other := newClaim(t, attest.Nonce{1})
	address := openOn(t, serving{owned: owned{claim: c}, wait: func() {}}, time.Minute)
	nobodys := dial(t, open(t, time.Minute))
	for path, want := range map[string]string{
		channel.ClaimDocumentPath: string(c.Encode()), channel.OutputPath: "printed", "/api/x": "payload",
	} {
		conn, elsewhere := dial(t, address), dial(t, address)
		for name, token := range map[string]string{
			"none": "", "another owner's": ownership.Token(other, conn.Channel),
			"another connection's": ownership.Token(key, elsewhere.Channel),
		} {
			if body, code := ask(t, conn, path, token); code != "not-owner" {
				t.Errorf("%s with the token %q: %q, %q", path, name, code, body)
			}
		}
		if body, code := ask(t, conn, path, ownership.Token(key, conn.Channel)); code != "" || body != want {
			t.Errorf("%s: %q, %q", path, code, body)
		}
		if body, code := ask(t, nobodys, path, ownership.Token(key, nobodys.Channel)); code != "unclaimed" {
			t.Errorf("%s of an unclaimed machine: %q, %q", path, code, body)
		}
	}
	if body, code := ask(t, dial(t, address), channel.ClaimPath, ""); code != "claimed" {
		t.Errorf("a nonce for a second claim: %q, %q", code, body)
	}
}

// A stranger's request is ended; the owner's takes as long as it takes.
func TestOwnersRequestsAreNotCutOff(t *testing.T) {
	c, key := newClaim(t, attest.Nonce{1})
	stranger := make(chan string, 1)
	m := serving{owned: owned{claim: c}, wait: func() {
		// One that came later than the owner's is over.
		io.Copy(io.Discard, slow(t, <-stranger, channel.ClaimPath)) //nolint:errcheck // it is cut off
	}}
	address := openOn(t, m, 50*time.Millisecond)
	stranger <- address
	conn := dial(t, address)
	if body, code := ask(t, conn, "/api/x", ownership.Token(key, conn.Channel)); code != "" || body != "payload" {
		t.Errorf("%q, %q", code, body)
	}
}

// eager takes every claim that reaches it.
type eager struct {
	still
	taken chan *ownership.Claim
}

func (m eager) Claim(_ context.Context, c *ownership.Claim) error {
	m.taken <- c
	return nil
}

// A claim answers a nonce that was drawn on its connection, and was not used.
func TestNonceIsForOneClaim(t *testing.T) {
	m := eager{taken: make(chan *ownership.Claim, 8)}
	address := openOn(t, m, time.Minute)
	claim := func(conn *channel.Conn, nonce attest.Nonce) string {
		t.Helper()
		c, _ := newClaim(t, nonce)
		_, err := conn.Call(t.Context(), http.MethodPost, channel.ClaimPath, channel.ContentType, c.Encode(), 1<<12)
		return codeOf(t, err)
	}
	draw := func(conn *channel.Conn) attest.Nonce {
		t.Helper()
		b, err := conn.Call(t.Context(), http.MethodGet, channel.ClaimPath, "", nil, 1<<12)
		if err != nil {
			t.Fatal(err)
		}
		return attest.Nonce(b)
	}
	conn, elsewhere := dial(t, address), dial(t, address)
	if code := claim(conn, attest.Nonce{}); code != "stale-claim" {
		t.Errorf("no nonce was drawn: %q", code)
	}
	draw(conn)
	if code := claim(conn, draw(elsewhere)); code != "stale-claim" {
		t.Errorf("another connection's nonce: %q", code)
	}
	nonce := draw(conn)
	if code := claim(conn, nonce); code != "" {
		t.Errorf("its own nonce: %q", code)
	}
	if code := claim(conn, nonce); code != "stale-claim" {
		t.Errorf("a second time: %q", code)
	}
	if n := len(m.taken); n != 1 {
		t.Errorf("%d claims were taken", n)
	}
}
