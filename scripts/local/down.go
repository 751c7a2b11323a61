package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/attest/statefile"
)

// down stops a run, also one whose control plane was killed: machines outlive
// it.
func down(ctx context.Context, p place) error {
	if _, err := os.Stat(p.config()); errors.Is(err, os.ErrNotExist) {
		fmt.Println("nothing runs in", relative(p.root))
		return nil
	}
	return step("power everything off, keeping the data", func() error {
		if err := p.stopRunner(ctx); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, p.program("shed"), "--state", p.root, "serve", "--config", p.config(), "--power-off")
		cmd.Env = p.environment()
		if err := p.make(); err != nil {
			return err
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return p.tidy()
	})
}

// stopRunner ends a 'make up' in another terminal. The pid is only believed
// while the lock beside it is held.
func (p place) stopRunner(ctx context.Context) error {
	written, err := os.ReadFile(p.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for a run: %w", err)
	}
	free := func() (bool, error) {
		unlock, err := statefile.TryLock(p.pidFile())
		if errors.Is(err, statefile.ErrLocked) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, unlock()
	}
	if ok, err := free(); ok || err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(written)))
	if err != nil {
		return fmt.Errorf("reading %s: %w", p.pidFile(), err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stopping run %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopWait+5*time.Second)
	defer cancel()
	if err := poll(ctx, 50*time.Millisecond, free); err != nil {
		return fmt.Errorf("waiting for run %d to stop: %w", pid, err)
	}
	return nil
}

// clean destroys the local run, data and all.
func clean(ctx context.Context, p place) error {
	if err := down(ctx, p); err != nil {
		return err
	}
	return step("destroy everything of the local run", p.remove)
}
