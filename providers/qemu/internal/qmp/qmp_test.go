package qmp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// monitor answers each line it gets with what answer returns.
func monitor(t *testing.T, greeting string, answer func(line string) string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = fmt.Fprintln(conn, greeting)
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			_, _ = fmt.Fprint(conn, answer(lines.Text()))
		}
	}()
	return path
}

const hello = `{"QMP":{"version":{},"capabilities":[]}}`

func TestEventsBeforeTheAnswerAreSkipped(t *testing.T) {
	path := monitor(t, hello, func(string) string {
		return `{"event":"POWERDOWN","data":{}}` + "\n" + `{"return":{}}` + "\n"
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Execute(t.Context(), "system_powerdown"); err != nil {
		t.Error(err)
	}
}

// An event is no answer: the one behind it counts.
func TestEventIsNoAnswer(t *testing.T) {
	path := monitor(t, hello, func(line string) string {
		if strings.Contains(line, "qmp_capabilities") {
			return `{"return":{}}` + "\n"
		}
		return `{"event":"POWERDOWN","data":{}}` + "\n" + `{"error":{"class":"GenericError","desc":"not now"}}` + "\n"
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Execute(t.Context(), "system_powerdown"); err == nil || !strings.Contains(fmt.Sprint(err), "not now") {
		t.Errorf("got %v", err)
	}
}

func TestRefusalIsAnError(t *testing.T) {
	path := monitor(t, hello, func(line string) string {
		if strings.Contains(line, "qmp_capabilities") {
			return `{"return":{}}` + "\n"
		}
		return `{"error":{"class":"CommandNotFound","desc":"no such thing"}}` + "\n"
	})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Execute(t.Context(), "dance"); err == nil || !strings.Contains(fmt.Sprint(err), "no such thing") {
		t.Errorf("got %v", err)
	}
}

func TestStrangerIsRefused(t *testing.T) {
	for _, greeting := range []string{`{}`, `SSH-2.0`, strings.Repeat("a", maxLine+1)} {
		path := monitor(t, greeting, func(string) string { return "" })
		if _, err := Dial(t.Context(), path); err == nil {
			t.Errorf("%.20q was taken for a monitor", greeting)
		}
	}
}

func TestSilenceEndsWithTheContext(t *testing.T) {
	path := monitor(t, hello, func(string) string { return "" })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := Dial(ctx, path); err == nil {
		t.Error("a monitor that says nothing was waited for")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(hello))
	f.Add([]byte(`{"return":{}}`))
	f.Add([]byte(`{"error":{"class":"a","desc":"b"}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = parse(b) })
}

// The end in place of a reset is told from every other.
func TestShutdown(t *testing.T) {
	for said, want := range map[string]struct {
		reset bool
		err   error
	}{
		`{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}`:                                          {true, nil},
		`{"event":"RESUME"}` + "\n" + `{"event":"SHUTDOWN","data":{"guest":false,"reason":"host-qmp-system-reset"}}`: {true, nil},
		`{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}}`:                                       {false, nil},
		`{"event":"SHUTDOWN","data":{"guest":false,"reason":"host-signal"}}`:                                         {false, nil},
		`{"event":"SHUTDOWN","data":{"reason":7}}`:                                                                   {false, ErrProtocol},
		`{"event":"SHUTDOWN"}`: {false, ErrProtocol},
		`{"event":"RESUME"}`:   {false, net.ErrClosed},
	} {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			lines := bufio.NewScanner(theirs)
			_, _ = fmt.Fprintln(theirs, hello)
			lines.Scan()
			_, _ = fmt.Fprintf(theirs, "{\"return\":{}}\n%s\n", said)
		}()
		c, err := Attach(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		if reset, err := c.Shutdown(t.Context()); reset != want.reset || !errors.Is(err, want.err) {
			t.Errorf("%s: %t, %v", said, reset, err)
		}
		c.Close()
	}
}
