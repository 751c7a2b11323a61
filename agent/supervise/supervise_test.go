package supervise_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/toolshed-cloud/shed/agent/supervise"
)

// TestMain is the payload too: supervise runs this very program.
func TestMain(m *testing.M) {
	supervise.Confine()
	if socket := os.Getenv("DAEMON_SOCKET"); socket != "" {
		daemon(socket)
		return
	}
	if socket := os.Getenv("SHED_SOCKET"); socket != "" {
		servePayload(socket, os.Getenv("SHED_DATA"))
		return
	}
	os.Exit(m.Run())
}

// servePayload answers its pid, healthy unless a file says otherwise.
func servePayload(socket, data string) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		os.Exit(1)
	}
	if _, err := os.Stat(filepath.Join(data, "probe")); err == nil {
		probe()
	}
	if _, err := os.Stat(filepath.Join(data, "daemon")); err == nil {
		forkAway(filepath.Join(data, "daemon.sock"))
	}
	if _, err := os.Stat(filepath.Join(data, "exit")); err == nil {
		os.Exit(97)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/exit", func(http.ResponseWriter, *http.Request) { os.Exit(3) })
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(filepath.Join(data, "sick")); err == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/pid", func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(strconv.Itoa(os.Getpid()))) //nolint:errcheck // the test sees what is missing
	})
	mux.HandleFunc("/environment", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Join(os.Environ(), "\n")) //nolint:errcheck // the test sees what is missing
	})
	mux.HandleFunc("/print", func(http.ResponseWriter, *http.Request) {
		b, err := os.ReadFile(filepath.Join(data, "noise"))
		if err != nil {
			os.Exit(1)
		}
		os.Stdout.Write(b) //nolint:errcheck // the test sees what is missing
	})
	http.Serve(l, mux) //nolint:errcheck,gosec // it is killed
}

func newSupervisor(t *testing.T) (s *supervise.Supervisor, data string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// A Unix socket's path is at most 107 bytes, which t.TempDir can exceed.
	sockets, err := os.MkdirTemp("", "supervise")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	data = t.TempDir()
	s = supervise.New(supervise.Payload{
		Command: []string{self}, Socket: filepath.Join(sockets, "s"), Data: data, Health: "/health", Log: zap.NewNop(),
		Environment: []string{"SHED_RELEASE=1.2.3"},
	})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s, data
}

// until waits for the supervisor to say so.
func until(t *testing.T, s *supervise.Supervisor, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	// Output arrives without a signal.
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-s.Changed():
		case <-poll.C:
		case <-ctx.Done():
			t.Fatalf("never %s", what)
		}
	}
}

func get(t *testing.T, s *supervise.Supervisor, path string) string {
	t.Helper()
	resp, err := (&http.Client{Transport: s.Transport()}).Get("http://payload" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func pid(t *testing.T, s *supervise.Supervisor) int {
	t.Helper()
	pid, err := strconv.Atoi(get(t, s, "/pid"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestPayloadIsRestarted(t *testing.T) {
	s, _ := newSupervisor(t)
	until(t, s, "healthy", s.Healthy)
	first := pid(t, s)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, s, "ended", func() bool { return s.Restarts() == 1 || !s.Running() })
	until(t, s, "healthy again", func() bool { return s.Restarts() == 1 && s.Healthy() })
	if again := pid(t, s); again == first {
		t.Errorf("process %d came back from the dead", again)
	}
}

func TestSickPayloadDoesNotPerform(t *testing.T) {
	s, data := newSupervisor(t)
	until(t, s, "healthy", s.Healthy)
	if err := os.WriteFile(filepath.Join(data, "sick"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, s, "sick", func() bool { return !s.Healthy() })
	if !s.Running() {
		t.Error("a sick payload was ended")
	}
}

func TestStopEndsThePayload(t *testing.T) {
	s, _ := newSupervisor(t)
	until(t, s, "healthy", s.Healthy)
	process := pid(t, s)
	s.Stop()
	s.Stop()
	if err := syscall.Kill(process, 0); err == nil || s.Running() || s.Healthy() {
		t.Errorf("after Stop: process %v, running %v, healthy %v", err, s.Running(), s.Healthy())
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, s, "healthy after a second start", s.Healthy)
}

// The payload knows what it was told and nothing of the agent's own environment.
func TestEnvironment(t *testing.T) {
	s, data := newSupervisor(t)
	until(t, s, "healthy", s.Healthy)
	said := strings.Split(get(t, s, "/environment"), "\n")
	if len(said) != 3 || !strings.HasPrefix(said[0], "SHED_SOCKET=") || said[1] != "SHED_DATA="+data || said[2] != "SHED_RELEASE=1.2.3" {
		t.Errorf("the payload's environment is %q", said)
	}
}

// A payload that ends again and again is given up before its time is over.
func TestPayloadThatDoesNotStayUp(t *testing.T) {
	s := supervise.New(supervise.Payload{Command: []string{"/bin/false"}, Socket: filepath.Join(t.TempDir(), "http.sock"), Data: t.TempDir(), Health: "/", Log: zap.NewNop()})
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if err := s.WaitSettled(t.Context(), 2); !errors.Is(err, supervise.ErrEnds) {
		t.Errorf("error %v, want %v", err, supervise.ErrEnds)
	}
}

// What holds the process may take a while, and may fail: until it is there nothing
// runs, and Stop does not wait for it.
func TestNothingRunsUntilReady(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan error, 1)
		wait := func(ctx context.Context) error {
			select {
			case err := <-ready:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		core, said := observer.New(zap.InfoLevel)
		// There is no such program: whoever runs it counts that it ended.
		s := supervise.New(supervise.Payload{
			Command: []string{filepath.Join(dir, "none")}, Port: 1, Data: dir, Health: "/", Ready: wait, Log: zap.New(core),
		})
		for _, c := range []struct {
			when   string
			become func()
			runs   bool
			says   int
		}{
			{"stopped before it was ready", func() {}, false, 0},
			{"stopped again", func() {}, false, 0},
			{"not ready", func() { ready <- errors.New("no root") }, false, 1},
			{"ready", func() { ready <- nil }, true, 2},
		} {
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			c.become()
			synctest.Wait()
			s.Stop()
			if (s.Restarts() > 0) != c.runs || said.Len() != c.says {
				t.Errorf("%s: it ended %d times, said %v", c.when, s.Restarts(), said.All())
			}
		}
	})
}
