package main

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/payload"
)

func init() {
	// The first thread of a process outlives what ran on it: main keeps it.
	runtime.LockOSThread()
}

// What holds the payload is readied once the machine takes connections; whoever
// stops it waits for neither.
func TestPayloadWaitsUntilTheMachineListens(t *testing.T) {
	noRoot := errors.New("no root")
	synctest.Test(t, func(t *testing.T) {
		listens, readied := false, make(chan struct{})
		s := &server{listening: make(chan struct{}), ready: func() error {
			if !listens {
				t.Error("it is readied before the machine listens")
			}
			<-readied
			return noRoot
		}}
		stopped := func(when string) {
			ctx, stop := context.WithCancel(t.Context())
			waited := make(chan error, 1)
			go func() { waited <- s.wait(ctx) }()
			synctest.Wait()
			if len(waited) > 0 {
				t.Errorf("%s it is started with %v", when, <-waited)
			}
			stop()
			if err := <-waited; !errors.Is(err, context.Canceled) {
				t.Errorf("%s stopping it ends in %v", when, err)
			}
		}
		stopped("before the machine listens,")
		listens = true
		close(s.listening)
		stopped("before it is readied,")
		close(readied)
		if err := s.wait(t.Context()); !errors.Is(err, noRoot) {
			t.Errorf("what cannot be readied: %v", err)
		}
	})
}

// The payload's supervisor waits for that.
func TestSupervisorWaitsUntilTheMachineListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{
			Spec: &payload.Spec{Listen: payload.Listen{Port: 1}}, listening: make(chan struct{}),
			ready: func() error { return errors.New("no root") },
		}
		core, said := observer.New(zap.InfoLevel)
		supervisor := s.supervisor(nil, zap.New(core))
		if err := supervisor.Start(); err != nil {
			t.Fatal(err)
		}
		defer supervisor.Stop()
		for _, says := range []int{0, 1} {
			if synctest.Wait(); said.Len() != says {
				t.Errorf("it says %v, want %d", said.All(), says)
			}
			if says == 0 {
				close(s.listening)
			}
		}
	})
}

// A machine enrols once what holds its payload is there: reach says when.
func TestPayloadIsHeldBeforeItReaches(t *testing.T) {
	for _, want := range []error{nil, errors.New("no root")} {
		readied := 0
		s := &server{Spec: &payload.Spec{Network: payload.Network{Right: payload.Off}}, ready: func() error {
			readied++
			return want
		}}
		if err := s.reach(t.Context(), nil, nil, zap.NewNop(), nil); !errors.Is(err, want) || readied != 1 {
			t.Errorf("readied %d times, got %v, want %v", readied, err, want)
		}
	}
}

// niceness is how far a thread stands back, and an error where there is none
// (getpriority(2): the call itself answers 20 less that).
func niceness(thread int) (int, error) {
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, thread)
	return 20 - priority, err
}

// What readies a payload stands back behind all else, and nothing else does, neither
// meanwhile nor afterwards.
func TestReadyingYields(t *testing.T) {
	noRoot := errors.New("no root")
	before, err := niceness(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	thread := 0
	err = yielding(func() error {
		thread = unix.Gettid()
		own, err := niceness(thread)
		others, alsoErr := niceness(os.Getpid())
		if own != 19 || others != before {
			t.Errorf("it runs at %d and others at %d, were at %d", own, others, before)
		}
		return errors.Join(err, alsoErr, noRoot)
	})
	if !errors.Is(err, noRoot) {
		t.Errorf("it ended in %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for err = nil; !errors.Is(err, unix.ESRCH); _, err = niceness(thread) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("its thread is still there")
		}
	}
}
