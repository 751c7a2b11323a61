package toolshed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// pipes is a listener of connections in memory, whose deadlines are the test's.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (pipes) Close() error   { return nil }
func (pipes) Addr() net.Addr { return &net.UnixAddr{} }

// upload sends a body of so many parts, one after each pause, and answers when
// and how the handler's reading of it ended, and what the caller was answered.
func upload(t *testing.T, parts int, part string, pause time.Duration, read func(io.Reader) error) (took time.Duration, answer string, err error) {
	t.Helper()
	ended := make(chan error, 1)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ended <- read(r.Body) })
	listener := make(pipes, 1)
	server := &http.Server{Handler: logged(h, func(*http.Request) string { return "" }, zap.NewNop())}
	go server.Serve(listener)
	done := make(chan struct{})
	defer func() {
		close(done)
		close(listener)
		server.Close()
		// A server that cuts off waits a moment for the answer to be read.
		<-time.After(time.Second)
	}()
	client, conn := net.Pipe()
	listener <- conn
	defer client.Close()
	began := time.Now()
	fmt.Fprintf(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", parts*len(part))
	go func() {
		for range parts {
			select {
			case <-time.After(pause):
			case <-done:
				return
			}
			if _, err := io.WriteString(client, part); err != nil {
				return
			}
		}
	}()
	err = <-ended
	took = time.Since(began)
	answer, _ = bufio.NewReader(client).ReadString('\n') //nolint:errcheck // nothing where it was cut off
	return took, answer, err
}

// Who lets a body wait is not waited for, however little they send meanwhile;
// one that arrives slowly does.
func TestBodiesAreWaitedFor(t *testing.T) {
	all := func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }
	for name, c := range map[string]struct {
		parts int
		part  string
		pause time.Duration
		took  time.Duration
		err   error
	}{
		"nothing comes":      {1, "x", time.Hour, bodyPatience, os.ErrDeadlineExceeded},
		"a byte at a time":   {100, "x", bodyPatience - time.Second, bodyPatience, os.ErrDeadlineExceeded},
		"a slow line":        {100, strings.Repeat("x", 2*int(25*slowestBytes)), 25 * time.Second, 2500 * time.Second, nil},
		"it stops in midway": {2, strings.Repeat("x", 1<<20), time.Hour, bodyPatience, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, _, err := upload(t, c.parts, c.part, c.pause, all)
				if took != c.took || !errors.Is(err, c.err) {
					t.Errorf("ended after %s with %v", took, err)
				}
			})
		})
	}
}

// A caller is answered who still sends what nobody reads, and does not keep the
// connection with it.
func TestUnreadBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, answer, err := upload(t, 2, "x", time.Hour, func(io.Reader) error { return nil })
		if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200") || time.Since(began) > leftoverPatience+time.Second {
			t.Errorf("%v, %q after %s", err, answer, time.Since(began))
		}
	})
}
