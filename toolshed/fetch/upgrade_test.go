package fetch

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A server that changes the protocol, which nobody asked it to, is bounded too.
func TestUnaskedUpgrade(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: more\r\n\r\n"); err != nil {
			t.Error(err)
		}
		endless(conn)
	}))
	defer s.Close()
	f, err := New([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	resp, err := f.Client(limits).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 8*limits.Bytes))
	if !errors.Is(err, ErrTooLong) || n > limits.Bytes {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// endless writes until the other end is gone.
func endless(conn net.Conn) {
	for b := make([]byte, 64<<10); ; {
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}
