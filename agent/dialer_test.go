package agent_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
)

// clock is a time that a test moves.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// evidencePath is what a machine answers to anybody.
var evidencePath = channel.EvidencePath + "?nonce=" + strings.Repeat("ab", 32)

// get asks for a path and reports whether a connection of before carried it.
func get(t *testing.T, c *http.Client, url string) (reused bool, err error) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return reused, err
}

// Any Go program talks over the dialer's connections: each is verified once,
// kept alive, and ends with its verification.
func TestDialer(t *testing.T) {
	m := newMachine(t)
	var moved clock
	trust := m.trust()
	trust.Now = moved.now
	d := &client.Dialer{Trust: trust, Machine: m.url, Lifetime: time.Minute}
	transport := &http.Transport{DialTLSContext: d.DialTLSContext}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	for i, want := range []bool{false, true, true} {
		if reused, err := get(t, c, m.url.String()+evidencePath); err != nil || reused != want {
			t.Errorf("request %d: on a connection of before %v, error %v", i, reused, err)
		}
	}
	moved.advance(2 * time.Minute)
	if reused, err := get(t, c, m.url.String()+evidencePath); err != nil || reused {
		t.Errorf("after the verification expired: on the same connection %v, error %v", reused, err)
	}
}

func TestDialerEndsWhatIsUnderWay(t *testing.T) {
	m := newMachine(t)
	var moved clock
	trust := m.trust()
	trust.Now = moved.now
	d := &client.Dialer{Trust: trust, Machine: m.url, Lifetime: time.Minute}
	conn, err := d.DialTLSContext(t.Context(), "tcp", m.url.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /api/x HTTP/1.1\r\n")); err != nil {
		t.Fatal(err)
	}
	moved.advance(time.Minute)
	if _, err := conn.Write([]byte("Host: x\r\n\r\n")); !errors.Is(err, client.ErrExpired) {
		t.Errorf("writing: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, client.ErrExpired) {
		t.Errorf("reading: %v", err)
	}
}

func TestDialerIsForOneMachine(t *testing.T) {
	m := newMachine(t)
	d := &client.Dialer{Trust: m.trust(), Machine: m.url, Lifetime: time.Minute}
	_, err := d.DialTLSContext(t.Context(), "tcp", "127.0.0.1:1")
	refused(t, err, attest.ErrPolicy)
	d.Lifetime = 0
	_, err = d.DialTLSContext(t.Context(), "tcp", m.url.Host)
	refused(t, err, attest.ErrPolicy)
	d.Lifetime = time.Minute
	d.Pin = &client.Pin{AK: []byte("another")}
	_, err = d.DialTLSContext(t.Context(), "tcp", m.url.Host)
	refused(t, err, attest.ErrIdentity)
}

// Without an owner's keys requests go as they are, on verified connections.
func TestTransportOfAStranger(t *testing.T) {
	m := newMachine(t)
	transport := &client.Transport{Trust: m.trust(), Machine: m.url, Lifetime: time.Minute}
	defer transport.Close()
	resp, err := (&http.Client{Transport: transport}).Get(m.url.String() + "/api/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", resp.StatusCode)
	}
}
