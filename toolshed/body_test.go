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

	"github.com/toolshed-cloud/shed/toolshed/store"
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

// An answer that is long, and so begins within the handler, does not wait for
// what nobody reads either, however long the handler thought about it.
func TestLongAnswersToUnreadBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat("x", 100_000)
		h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			<-time.After(time.Hour)
			io.WriteString(w, long) //nolint:errcheck // the test sees what is missing
		})
		client, conn := net.Pipe()
		listener := make(pipes, 1)
		listener <- conn
		server := &http.Server{Handler: logged(h, func(*http.Request) string { return "" }, zap.NewNop())}
		go server.Serve(listener)
		defer func() {
			client.Close()
			close(listener)
			server.Close()
			<-time.After(time.Second)
		}()
		began := time.Now()
		go io.WriteString(client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf") //nolint:errcheck // as above
		resp, err := http.ReadResponse(bufio.NewReader(client), nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != long || time.Since(began) > time.Hour+leftoverPatience {
			t.Errorf("%d bytes after %s: %v", len(got), time.Since(began), err)
		}
	})
}

// What each way of reading answers to a body that stops: nothing of it is kept,
// but the part of an upload that goes on later.
func TestStalledBodiesAreAnswered(t *testing.T) {
	data, err := store.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	synctest.Test(t, func(t *testing.T) {
		root, err := Open(t.Context(), Options{Data: data, BehindAgent: true, Log: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		listener := make(pipes)
		server := &http.Server{Handler: root.Handler()}
		go server.Serve(listener)
		defer func() {
			close(listener)
			server.Close()
			<-time.After(time.Second)
		}()
		ask := func(head, body string) (int, http.Header) {
			t.Helper()
			client, conn := net.Pipe()
			listener <- conn
			defer client.Close()
			// It may be answered before all of it is taken.
			go fmt.Fprintf(client, "%s HTTP/1.1\r\nHost: x\r\nShed-Owner: %s\r\nTus-Resumable: 1.0.0\r\n%s", head, strings.Repeat("ab", 32), body)
			resp, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatalf("%s: %v", head, err)
			}
			resp.Body.Close()
			return resp.StatusCode, resp.Header
		}
		const stalls = "Content-Length: 100\r\n\r\nhalf"
		for head, kind := range map[string]string{
			"PUT /api/kv/x": "text/plain", "POST /api/kv": "application/json", "POST /api/queue/q": "text/plain", "POST /api/blobs": "text/plain",
			"POST /api/data/collections/c/documents": "application/json", "PUT /api/functions/f": "application/wasm",
		} {
			if status, _ := ask(head, "Content-Type: "+kind+"\r\n"+stalls); status != 400 && status != 408 {
				t.Errorf("%s: %d", head, status)
			}
		}
		status, h := ask("POST /api/blobs/uploads", "Upload-Length: 100\r\nContent-Length: 0\r\n\r\n")
		if status != 201 {
			t.Fatalf("an upload: %d", status)
		}
		ask("PATCH "+h.Get("Location"), "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"+stalls)
		if _, h := ask("HEAD "+h.Get("Location"), "\r\n"); h.Get("Upload-Offset") != "4" {
			t.Errorf("of an upload %q bytes are there", h.Get("Upload-Offset"))
		}
	})
}
