package plugin_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/providers"
)

// freeze stops a child and returns when it has: the signal takes its time.
func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
}

// A plugin that hangs as a whole is replaced, and the call says that it was
// not done.
func TestHangingPluginIsReplaced(t *testing.T) {
	opts := options(t)
	opts.CallTimeout = 2 * time.Second
	s := open(t, opts)
	if err := s.Configure(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	first := s.Pid()
	freeze(t, first)
	_, err := s.Get(t.Context(), "machine")
	if providers.CodeOf(err) != providers.CodeUnavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Get answered %v, want UNAVAILABLE of a deadline", err)
	}
	exited(t, first, 10*time.Second)
	for providers.CodeOf(err) == providers.CodeUnavailable && t.Context().Err() == nil {
		_, err = s.Get(t.Context(), "machine")
	}
	if providers.CodeOf(err) != providers.CodeNotFound {
		t.Errorf("Get answered %v, want NOT_FOUND of the next plugin", err)
	}
}

// Settings that a hanging plugin does not take in are given up too: nobody waits
// for it for ever.
func TestHangingPluginIsNotConfigured(t *testing.T) {
	opts := options(t)
	opts.CallTimeout = 2 * time.Second
	s := open(t, opts)
	first := s.Pid()
	freeze(t, first)
	ended := make(chan error, 1)
	go func() { ended <- s.Configure(t.Context(), []byte("{}")) }()
	select {
	case err := <-ended:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Configure answered %v, want that of a deadline", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("Configure hangs with the plugin")
	}
	exited(t, first, 10*time.Second)
}

// One call that hangs is given up; the plugin, which answers others, stays.
func TestHangingCallLeavesThePlugin(t *testing.T) {
	opts := options(t)
	opts.CallTimeout = 2 * time.Second
	signals(t, &opts)
	s := open(t, opts)
	before := s.Pid()
	_, err := s.Create(t.Context(), providers.CreateRequest{Machine: hang})
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Create answered %v, want OUTCOME_UNKNOWN of a deadline", err)
	}
	if _, err := s.Info(t.Context()); err != nil || s.Pid() != before {
		t.Errorf("Info: %v; plugin has pid %d, had %d", err, s.Pid(), before)
	}
}

// Closing does not wait for a plugin that hangs.
func TestHangingPluginIsClosed(t *testing.T) {
	s := open(t, options(t))
	pid := s.Pid()
	freeze(t, pid)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Close hangs with the plugin")
	}
	exited(t, pid, 10*time.Second)
}

// A caller who is less patient than that says nothing of the plugin.
func TestImpatientCallerLeavesThePlugin(t *testing.T) {
	opts := options(t)
	signals(t, &opts)
	s := open(t, opts)
	before := s.Pid()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := s.Create(ctx, providers.CreateRequest{Machine: hang})
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown {
		t.Errorf("Create answered %v", err)
	}
	if _, err := s.Info(t.Context()); err != nil || s.Pid() != before {
		t.Errorf("Info: %v; plugin has pid %d, had %d", err, s.Pid(), before)
	}
}
