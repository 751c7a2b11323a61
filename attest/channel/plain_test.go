package channel

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// strange answers one connection's first request with what respond writes.
func strange(t *testing.T, respond func(io.Writer)) *url.URL {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", ServerConfig(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func(conn net.Conn) {
				defer conn.Close()
				line, err := bufio.NewReader(conn).ReadString('\n')
				if err == nil && strings.HasPrefix(line, "GET ") {
					respond(conn)
				}
			}(conn)
		}
	}()
	return &url.URL{Scheme: "https", Host: l.Addr().String()}
}

// Whoever answers has proved nothing yet: the head of an answer is capped, be
// it one endless line or lines without end.
func TestHeadWithoutEnd(t *testing.T) {
	for name, head := range map[string][2]string{
		"lines":       {"HTTP/1.1 200 OK\r\n", "X-More: " + strings.Repeat("x", 1<<10) + "\r\n"},
		"one line":    {"HTTP/1.1 200 OK\r\nX-More: ", strings.Repeat("x", 1<<10)},
		"status line": {"HTTP/1.1 200 ", strings.Repeat("x", 1<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan int, 1)
			machine := strange(t, func(w io.Writer) {
				n, _ := io.WriteString(w, head[0])
				for n < 64<<20 {
					m, err := io.WriteString(w, head[1])
					if n += m; err != nil {
						break
					}
				}
				sent <- n
			})
			conn, err := DialPlain(t.Context(), machine)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, err = conn.Call(t.Context(), "GET", EvidencePath, "", nil, 1<<10)
			if !errors.Is(err, attest.ErrMalformed) {
				t.Errorf("%.200v, want %v", err, attest.ErrMalformed)
			}
			conn.Close()
			if n := <-sent; n > 16<<20 {
				t.Errorf("%d MiB of a head were taken", n>>20)
			}
		})
	}
}

// What an answer brings along unasked is not the connection's: whoever takes it
// over would read it as the payload's.
func TestAnswerWithMoreBehindIt(t *testing.T) {
	machine := strange(t, func(w io.Writer) {
		_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")
		_, _ = io.Copy(io.Discard, w.(io.Reader))
	})
	conn, err := DialPlain(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if b, err := conn.Call(t.Context(), "GET", EvidencePath, "", nil, 1<<10); err != nil || string(b) != "ok" {
		t.Fatalf("%q %v", b, err)
	}
	if _, err := conn.Take(); !errors.Is(err, ErrNotPlain) {
		t.Errorf("%v, want %v", err, ErrNotPlain)
	}
}
