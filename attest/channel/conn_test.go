package channel

import (
	"context"
	"errors"
	"net"
	"net/url"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// A port that takes connections before anything listens behind it is a machine
// that is not there yet, and no refusal; neither is giving up.
func TestHandshakeThatEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 2)
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			accepted <- conn
		}
	}()
	machine := &url.URL{Scheme: "https", Host: l.Addr().String()}

	go func() {
		conn := <-accepted
		conn.Read(make([]byte, 4<<10)) //nolint:errcheck // the whole hello, so that closing sends no reset
		conn.Close()
	}()
	var operation *net.OpError
	if _, err = Dial(t.Context(), machine); !errors.As(err, &operation) || errors.Is(err, attest.ErrRefused) {
		t.Errorf("closed: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		conn := <-accepted
		t.Cleanup(func() { conn.Close() })
		cancel()
	}()
	if _, err = Dial(ctx, machine); !errors.Is(err, context.Canceled) || errors.Is(err, attest.ErrRefused) {
		t.Errorf("given up: %v", err)
	}
}
