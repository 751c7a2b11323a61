// Package supervise keeps the payload running: an unprivileged process that is
// restarted with backoff and probed for health where it answers.
//
// Invariants: the payload never runs with the agent's rights or devices, nor
// before what holds it to its network right does; what it prints is its owner's to read and never reaches the
// console; at most one process of it exists at a time; Stop ends it before it
// returns.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/backoff"
)

// Payload is what to run.
type Payload struct {
	// Command is the program and its arguments. It is told where to listen by
	// SHED_SOCKET or SHED_PORT, and where to keep its data by SHED_DATA.
	Command []string
	// Socket is where it answers, or Port, of the loopback address.
	Socket string
	Port   int
	Data   string
	// Environment is what else it is told.
	Environment []string
	// Health is the path that answers 200 while the payload serves.
	Health string
	// Confinement holds the process; nil runs it as it is, for tests.
	Confinement *Confinement
	// Ready, where set, returns once what holds the process is there, or its context
	// has ended. Where it fails nothing is started until the next Start.
	Ready func(context.Context) error
	// Log is the machine's console: nothing that the payload says or chooses
	// reaches it, its exit status included.
	Log *zap.Logger
}

// The restart backoff doubles from first to last and begins again once a
// process has held out for settled.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	settled      = time.Minute
	// stopGrace is how long the payload has to end after SIGTERM.
	stopGrace = 3 * time.Second
	// probeStarting and probeSteady are the probe's intervals before and after
	// the first answer.
	probeStarting = 20 * time.Millisecond
	probeSteady   = time.Second
	probeTimeout  = 2 * time.Second
)

// Supervisor runs one payload.
type Supervisor struct {
	payload Payload
	client  *http.Client

	output   ring
	running  atomic.Bool
	healthy  atomic.Bool
	restarts atomic.Uint64
	changed  chan struct{}

	// mu guards stop and done.
	mu   sync.Mutex
	stop context.CancelFunc
	done chan struct{}
}

// New makes a supervisor that does not run yet.
func New(p Payload) *Supervisor {
	network, address := "unix", p.Socket
	if p.Port != 0 {
		network, address = "tcp", fmt.Sprintf("127.0.0.1:%d", p.Port)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return &Supervisor{
		payload: p,
		client:  &http.Client{Timeout: probeTimeout, Transport: &http.Transport{DialContext: dial}},
		changed: make(chan struct{}, 1),
	}
}

// Running reports whether the payload's process is up.
func (s *Supervisor) Running() bool { return s.running.Load() }

// Healthy reports whether the last probe was answered with 200.
func (s *Supervisor) Healthy() bool { return s.healthy.Load() }

// WaitHealthy returns once the payload serves, or with ctx's error.
func (s *Supervisor) WaitHealthy(ctx context.Context) error {
	return s.WaitSettled(ctx, math.MaxUint64)
}

// ErrEnds says that the payload ends by itself, again and again.
var ErrEnds = errors.New("the payload does not stay up")

// WaitSettled is WaitHealthy, but for a payload that has ended by itself more often
// than that, which is ErrEnds.
func (s *Supervisor) WaitSettled(ctx context.Context, restarts uint64) error {
	ticker := time.NewTicker(probeStarting)
	defer ticker.Stop()
	for !s.Healthy() {
		if s.Restarts() > restarts {
			return ErrEnds
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the payload: %w", ctx.Err())
		case <-ticker.C:
		}
	}
	return nil
}

// Restarts counts the times the payload ended by itself.
func (s *Supervisor) Restarts() uint64 { return s.restarts.Load() }

// Changed is signalled when Running or Healthy changes.
func (s *Supervisor) Changed() <-chan struct{} { return s.changed }

// Output is the latest of what the payload printed, at most MaxOutputBytes.
func (s *Supervisor) Output() []byte { return s.output.bytes() }

// Transport reaches the payload.
func (s *Supervisor) Transport() http.RoundTripper { return s.client.Transport }

// Start runs the payload until Stop. A second Start does nothing. Errors are
// the file system's; a program that does not start is tried again.
func (s *Supervisor) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		return nil
	}
	if err := s.makeSocketDir(); err != nil {
		return fmt.Errorf("starting payload: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.done = cancel, make(chan struct{})
	go s.loop(ctx, s.done)
	return nil
}

func (s *Supervisor) makeSocketDir() error {
	if s.payload.Socket == "" {
		return nil
	}
	dir := filepath.Dir(s.payload.Socket)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if c := s.payload.Confinement; c != nil {
		return os.Chown(dir, c.UID, c.GID)
	}
	return nil
}

// Stop ends the payload and waits until it is gone. A second Stop does
// nothing.
func (s *Supervisor) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		return
	}
	s.stop()
	<-s.done
	s.stop = nil
}

func (s *Supervisor) loop(ctx context.Context, done chan struct{}) {
	defer close(done)
	if s.payload.Ready != nil {
		err := s.payload.Ready(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.payload.Log.Error("the payload is not started", zap.Error(err))
			return
		}
	}
	for failures := 1; ; failures++ {
		started := time.Now()
		err := s.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		s.restarts.Add(1)
		if time.Since(started) > settled {
			failures = 1
		}
		pause := backoff.Pause(failures, firstBackoff, lastBackoff)
		fmt.Fprintf(&s.output, "\n[the payload ended: %v]\n", err)
		s.payload.Log.Warn("payload ended", zap.Duration("again_in", pause))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// command is the process to start, and what to close once it was.
func (s *Supervisor) command(ctx context.Context) (*exec.Cmd, func(), error) {
	p := s.payload
	if p.Socket != "" {
		if err := os.Remove(p.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, fmt.Errorf("removing old socket: %w", err)
		}
	}
	cmd := exec.CommandContext(ctx, p.Command[0], p.Command[1:]...)
	cmd.Dir = p.Data
	where := "SHED_SOCKET=" + p.Socket
	if p.Socket == "" {
		where = "SHED_PORT=" + strconv.Itoa(p.Port)
	}
	cmd.Env = append([]string{where, "SHED_DATA=" + p.Data}, p.Environment...)
	// A pipe: the agent's own outputs are the machine's console.
	cmd.Stdout, cmd.Stderr = &s.output, &s.output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	if p.Confinement == nil {
		return cmd, func() {}, nil
	}
	closeGroup, err := p.Confinement.wrap(cmd)
	return cmd, closeGroup, err
}

// runOnce runs the payload until it ends or ctx does.
func (s *Supervisor) runOnce(ctx context.Context) error {
	cmd, started, err := s.command(ctx)
	if err != nil {
		return err
	}
	err = cmd.Start()
	started()
	if err != nil {
		return fmt.Errorf("starting payload: %w", err)
	}
	s.set(&s.running, true)
	probing, stopProbing := context.WithCancel(ctx)
	var probe sync.WaitGroup
	probe.Go(func() { s.probe(probing) })
	err = cmd.Wait()
	stopProbing()
	probe.Wait()
	s.set(&s.healthy, false)
	s.set(&s.running, false)
	if err == nil {
		err = errors.New("exit status 0")
	}
	return err
}

// probe asks often until the first answer, then steadily.
func (s *Supervisor) probe(ctx context.Context) {
	for interval := probeStarting; ; {
		probeOnce := s.probeOnce(ctx)
		s.set(&s.healthy, probeOnce)
		if probeOnce {
			interval = probeSteady
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

func (s *Supervisor) probeOnce(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://payload"+s.payload.Health, nil)
	if err != nil {
		return false
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// set stores a flag and signals where it changed.
func (s *Supervisor) set(flag *atomic.Bool, value bool) {
	if flag.Swap(value) != value {
		select {
		case s.changed <- struct{}{}:
		default:
		}
	}
}
