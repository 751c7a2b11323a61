package connlimit_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest/connlimit"
)

// held serves connections of a bounded listener: it says hello to each and
// holds it until the client closes it.
func held(t *testing.T, total, perSource int) string {
	t.Helper()
	under, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := connlimit.Listen(under, total, perSource)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.WriteString(c, "hello") //nolint:errcheck // the client sees
				io.Copy(io.Discard, c)     //nolint:errcheck // until it closes
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return under.Addr().String()
}

// dial connects from a loopback address of its own; served says whether the
// other side took the connection.
func dial(t *testing.T, from, to string) (c net.Conn, served bool) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	_, err = io.ReadFull(c, b)
	return c, err == nil
}

// One source cannot take the places of others.
func TestSourceIsBounded(t *testing.T) {
	address := held(t, 8, 3)
	var open []net.Conn
	for i := range 3 {
		c, served := dial(t, "127.0.0.1", address)
		if !served {
			t.Fatalf("connection %d was not served", i)
		}
		open = append(open, c)
	}
	if _, served := dial(t, "127.0.0.1", address); served {
		t.Error("a fourth connection from one source was served")
	}
	if _, served := dial(t, "127.0.0.2", address); !served {
		t.Error("another source was kept out")
	}
	open[0].Close()
	// The place is free once the server has seen the end.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, served := dial(t, "127.0.0.1", address); served {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a place that was given back is not free")
		}
	}
}

// In all, what is over the bound waits.
func TestTotalIsBounded(t *testing.T) {
	address := held(t, 2, 2)
	first, _ := dial(t, "127.0.0.1", address)
	dial(t, "127.0.0.2", address)
	waiting, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	if err := waiting.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	var network net.Error
	if _, err := io.ReadFull(waiting, b); !errors.As(err, &network) || !network.Timeout() {
		t.Errorf("a third connection: %q, error %v", b, err)
	}
	first.Close()
	if err := waiting.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(waiting, b); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}
