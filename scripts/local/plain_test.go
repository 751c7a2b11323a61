package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestCrashOfTheKernelIsTold(t *testing.T) {
	const (
		oops    = "[    1.524116] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\r\n"
		panics  = "[    1.524116] Kernel panic - not syncing: Attempted to kill the idle task!\r\n"
		message = `{"level":"info","msg":"start","release":"0"}` + "\r\n"
	)
	for name, c := range map[string]struct {
		console string
		want    bool
	}{
		"nothing yet":               {"BdsDxe: loading\r\n", false},
		"a fault":                   {"BdsDxe: loading\r\n" + oops, true},
		"a panic":                   {panics, true},
		"both":                      {oops + panics, true},
		"the agent has begun":       {message, false},
		"a fault under the agent":   {message + oops + panics, false},
		"a panic under the agent":   {message + panics, false},
		"under the least program":   {"START\r\n" + panics, false},
		"a crash, then another try": {`{"msg":"restart"}` + "\r\n" + oops + panics + message, true},
	} {
		if err := crashed([]byte(c.console)); errors.Is(err, errCrashed) != c.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// portOf is where a listener on the loopback address is.
func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// The first attempts are lost, as QEMU loses them: none waits for the one before it.
func TestFirstAnswerWaitsForNoLostAttempt(t *testing.T) {
	const lost = 2
	var open atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if open.Add(1) > lost {
			return
		}
		<-r.Context().Done()
		open.Add(-1)
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := (&plainMachine{port: portOf(server.Listener)}).firstAnswer(ctx); err != nil {
		t.Errorf("with %d attempts lost: %v", lost, err)
	}
}

// Being refused is no answer, however often.
func TestMachineThatNeverAnswersIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*askEvery)
	defer cancel()
	if err := (&plainMachine{port: portOf(l)}).firstAnswer(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// What a machine says counts where it is a whole answer, whatever that says.
func TestWhatCountsAsAnAnswer(t *testing.T) {
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	defer certified.Close()
	for name, c := range map[string]struct {
		said string
		want bool
	}{
		"an answer":        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true},
		"a refusal":        {"HTTP/1.1 421 Misdirected Request\r\nContent-Length: 0\r\n\r\n", true},
		"half an answer":   {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", false},
		"another protocol": {"220 ready\r\n", false},
		"nothing":          {"", false},
	} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", certified.TLS)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				io.WriteString(conn, c.said) //nolint:errcheck // the test sees what is missing
				conn.Close()
			}
		}()
		got := false
		// On a busy host time may run out for one.
		for range 3 {
			got = got || (&plainMachine{port: portOf(l)}).answers(t.Context())
		}
		if got != c.want {
			t.Errorf("%s: %t", name, got)
		}
		l.Close()
		<-served
	}
}

// A machine that takes a connection and says nothing is not waited for.
func TestSilentMachineIsAskedForAMoment(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	if (&plainMachine{port: portOf(server.Listener)}).answers(t.Context()) {
		t.Error("it answers")
	}
}

// scripts puts stand-ins for programs into a directory.
func scripts(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// crashing is a script that shows on a console that the kernel crashed, the first
// times, and then that a program began; it leaves a byte a time in tried. Where the
// kernel crashed it goes on with crashed.
func crashing(dir, console string, times int, crashed string) string {
	return fmt.Sprintf("printf x >> %[1]s/tried\nif [ $(wc -c < %[1]s/tried) -le %[3]d ]; then\nprintf 'Oops: ' >> %[2]s\n%[4]s\nfi\nprintf START >> %[2]s\n",
		dir, console, times, crashed)
}

func read(t *testing.T, dir, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tried is how often such a script has run.
func tried(t *testing.T, dir string) int { return len(read(t, dir, "tried")) }

// A boot whose kernel crashes says nothing, and another is measured; there is an end
// to that.
func TestBootThatCrashesIsTriedAgain(t *testing.T) {
	for crashes, want := range map[int]struct {
		tries int
		err   error
	}{0: {1, nil}, 1: {2, nil}, bootTries - 1: {bootTries, nil}, bootTries: {bootTries, errCrashed}} {
		dir, asked := t.TempDir(), make(chan time.Time, 100)
		server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- time.Now() }))
		defer server.Close()
		const stays = "exec sleep 60"
		scripts(t, dir, map[string]string{
			"swtpm_setup": "", "qemu-img": "", "swtpm": `touch "${6#type=unixio,path=}"` + "\n" + stays,
			"qemu": "echo $$ > " + dir + "/pid\n" + crashing(dir, "$1/console.log", crashes, stays) + stays,
		})
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		if err := os.WriteFile(filepath.Join(dir, "variables.fd"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &plainMachine{place: place{root: dir, runtime: dir}, source: "/source", qemu: []string{filepath.Join(dir, "qemu"), "/source"}, port: portOf(server.Listener)}
		times, err := m.boot(t.Context(), dir)
		if !errors.Is(err, want.err) || tried(t, dir) != want.tries {
			t.Errorf("%d crashes: %d boots, error %v", crashes, tried(t, dir), err)
		}
		if _, err := os.Stat("/proc/" + strings.TrimSpace(read(t, dir, "pid"))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d crashes: QEMU runs on, %v", crashes, err)
		}
		if err != nil {
			continue
		}
		if len(asked) == 0 {
			t.Fatalf("%d crashes: it was never asked", crashes)
		}
		if first := <-asked; !times.began.Before(times.started) || !times.started.Before(first) || !first.Before(times.answered) {
			t.Errorf("%d crashes: began %v, started %v, asked %v, answered %v", crashes, times.began, times.started, first, times.answered)
		}
	}
}

// An offer that ended with a crash of the kernel is made again. One that failed
// otherwise is not, whatever the console showed before.
func TestOfferThatCrashesIsMadeAgain(t *testing.T) {
	const crash = "Oops: "
	for name, c := range map[string]struct {
		before  string
		crashes int
		fails   bool
		tries   int
		err     error
	}{
		"kept":              {tries: 1},
		"a crash":           {crashes: 1, tries: 2},
		"crash after crash": {crashes: bootTries, tries: bootTries, err: errCrashed},
		"a crash before":    {before: crash, fails: true, tries: 1},
		"no crash":          {fails: true, tries: 1},
	} {
		p := place{root: t.TempDir(), bin: t.TempDir()}
		machine := filepath.Join(p.provider(), "machines", "one")
		if err := os.MkdirAll(machine, 0o700); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{
			"machine.json": fmt.Sprintf(`{"qemu":{"pid":%d}}`, os.Getpid()), "config.img": "", "console.log": c.before,
		} {
			if err := os.WriteFile(filepath.Join(machine, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		shed := crashing(p.bin, filepath.Join(machine, "console.log"), c.crashes, "exit 1")
		if c.fails {
			shed += "exit 1"
		}
		scripts(t, p.bin, map[string]string{"shed": shed})
		took, err := (&local{place: p}).offer(t.Context(), "digest")
		if (err != nil) != (c.fails || c.err != nil) || errors.Is(err, errCrashed) != (c.err != nil) || tried(t, p.bin) != c.tries {
			t.Errorf("%s: %d offers, error %v", name, tried(t, p.bin), err)
		}
		if (err == nil) != (took > 0) {
			t.Errorf("%s: it took %s, error %v", name, took, err)
		}
	}
}

// A run that fails shows each machine's console.
func TestConsolesOfARun(t *testing.T) {
	p := place{root: t.TempDir()}
	for _, name := range []string{"one", "two"} {
		machine := filepath.Join(p.provider(), "machines", name)
		if err := os.MkdirAll(machine, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(machine, "console.log"), []byte("said by "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := "\nthe console of machine one ends:\nsaid by one\nthe console of machine two ends:\nsaid by two"
	if got := p.consoles(); got != want {
		t.Errorf("got %q", got)
	}
}
