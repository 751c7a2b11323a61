package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// greeting is a child's first line: where it listens.
type greeting struct {
	Admin    string `json:"admin"`
	Webhooks string `json:"webhooks"`
	Agents   string `json:"agents"`
}

// usage is what a child has used so far, and holds now.
type usage struct {
	CPU           time.Duration `json:"cpu_ns"`
	ResidentBytes int64         `json:"resident_bytes"`
}

// child is one part in a process of its own. It answers each line on its
// standard input with its usage, and ends with that input.
type child struct {
	greeting
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log *os.File
}

// start begins a child whose log is a file beside its state.
func start(ctx context.Context, part, dir string, args ...string) (_ *child, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	c := &child{cmd: exec.CommandContext(ctx, self, append(append([]string{"-dir", dir}, args...), part)...)}
	if c.log, err = os.Create(dir + ".log"); err != nil {
		return nil, fmt.Errorf("making the log: %w", err)
	}
	c.cmd.Stderr = c.log
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", part, err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s: %w", part, err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", part, err)
	}
	if err := c.read(&c.greeting); err != nil {
		return nil, errors.Join(fmt.Errorf("the %s did not come up (%s): %w", part, lastLine(c.log.Name()), err), c.stop())
	}
	return c, nil
}

func lastLine(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}

func (c *child) read(into any) error {
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading from a child: %w", err)
	}
	return json.Unmarshal(line, into)
}

func (c *child) usage() (u usage, err error) {
	if _, err := io.WriteString(c.in, "usage\n"); err != nil {
		return u, fmt.Errorf("asking a child for its usage: %w", err)
	}
	return u, c.read(&u)
}

// share is the part of a core that the child uses over a window.
func (c *child) share(ctx context.Context, window time.Duration) (share float64, resident float64, err error) {
	before, err := c.usage()
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := wait(ctx, window); err != nil {
		return 0, 0, err
	}
	after, err := c.usage()
	return float64(after.CPU-before.CPU) / float64(time.Since(began)), float64(after.ResidentBytes) / (1 << 20), err
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (c *child) stop() error {
	err := c.in.Close()
	if waited := c.cmd.Wait(); waited != nil {
		err = errors.Join(err, fmt.Errorf("ending a child (%s): %w", lastLine(c.log.Name()), waited))
	}
	return errors.Join(err, c.log.Close())
}

// answer greets and then tells the usage until the input ends.
func answer(g greeting) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(g); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		u, err := ownUsage()
		if err != nil {
			return err
		}
		if err := out.Encode(u); err != nil {
			return fmt.Errorf("telling the usage: %w", err)
		}
	}
	return lines.Err()
}

func ownUsage() (u usage, err error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return u, fmt.Errorf("reading the usage: %w", err)
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return u, fmt.Errorf("reading the resident size: %w", err)
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return u, errors.New("reading the resident size: too few fields")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	u.ResidentBytes = pages * int64(os.Getpagesize())
	return u, err
}

// withProfile writes a CPU profile of f where a name is given.
func withProfile(name string, f func() error) (err error) {
	if name == "" {
		return f()
	}
	file, err := os.Create(filepath.Clean(name))
	if err != nil {
		return fmt.Errorf("making the profile: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return fmt.Errorf("profiling: %w", err)
	}
	defer pprof.StopCPUProfile()
	return f()
}
