// Package cgroup bounds what a machine's processes take of the host, by control
// groups of version 2.
//
// Invariants: a group has all its limits before a process is in it, and a process
// is in it before it runs; a limit that the host cannot keep is an error and
// never left out; and nothing but the directory that was handed over, and what
// was made below it, is written to.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGroup says that a directory cannot bound anything.
var ErrGroup = errors.New("control group")

// Limits are those of one group. Zero leaves a limit out.
type Limits struct {
	// CPUWeight and IOWeight are shares, from 1 to 10000; 100 is what a group
	// has that says nothing.
	CPUWeight, IOWeight int
	// CPUPercent is of one processor.
	CPUPercent int
	// MemoryBytes is what the processes may hold, and what they may not give
	// back of the files that they read.
	MemoryBytes int64
	// Pids is how many processes and threads there may be.
	Pids int
}

// controllers are what limits need of the kernel.
func (l Limits) controllers() (names []string) {
	for _, c := range []struct {
		name   string
		needed bool
	}{
		{"cpu", l.CPUWeight != 0 || l.CPUPercent != 0}, {"io", l.IOWeight != 0}, {"memory", l.MemoryBytes != 0}, {"pids", l.Pids != 0},
	} {
		if c.needed {
			names = append(names, c.name)
		}
	}
	return names
}

// Check refuses values that no kernel takes.
func (l Limits) Check() error {
	for _, w := range []struct {
		name  string
		value int
	}{{"cpu_weight", l.CPUWeight}, {"io_weight", l.IOWeight}} {
		if w.value < 0 || w.value > 10000 {
			return fmt.Errorf("%w: %s is %d, want 1 to 10000, or 0", ErrGroup, w.name, w.value)
		}
	}
	if l.CPUPercent < 0 || l.MemoryBytes < 0 || l.Pids < 0 {
		return fmt.Errorf("%w: a limit is negative", ErrGroup)
	}
	return nil
}

// Parent is a directory that groups are made in.
type Parent string

// Ready has the groups in a directory be able to have limits. Errors match
// ErrGroup: it is none of version 2, or may not be written to, or lacks a
// controller.
func (p Parent) Ready(l Limits) error {
	var st unix.Statfs_t
	if err := unix.Statfs(string(p), &st); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrGroup, p, err)
	}
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return fmt.Errorf("%w: %s is not in a cgroup2 file system", ErrGroup, p)
	}
	there, err := os.ReadFile(filepath.Join(string(p), "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGroup, err)
	}
	for _, c := range l.controllers() {
		if !slices.Contains(strings.Fields(string(there)), c) {
			return fmt.Errorf("%w: %s has not the controller %s, only %q", ErrGroup, p, c, strings.TrimSpace(string(there)))
		}
		if err := set(string(p), "cgroup.subtree_control", "+"+c); err != nil {
			return err
		}
	}
	return nil
}

// Make makes a group, or finds it, and gives it its limits. The directory is for
// who starts a process in it.
func (p Parent) Make(name string, l Limits) (*os.File, error) {
	dir := filepath.Join(string(p), name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: %w", ErrGroup, err)
	}
	const period = 100_000
	for _, limit := range []struct {
		file, value string
		wanted      bool
	}{
		{"cpu.weight", strconv.Itoa(l.CPUWeight), l.CPUWeight != 0},
		{"cpu.max", fmt.Sprintf("%d %d", l.CPUPercent*(period/100), period), l.CPUPercent != 0},
		{"io.weight", strconv.Itoa(l.IOWeight), l.IOWeight != 0},
		// A machine without its TPM is no machine: both end.
		{"memory.oom.group", "1", l.MemoryBytes != 0},
		{"memory.max", strconv.FormatInt(l.MemoryBytes, 10), l.MemoryBytes != 0},
		{"pids.max", strconv.Itoa(l.Pids), l.Pids != 0},
	} {
		if !limit.wanted {
			continue
		}
		if err := set(dir, limit.file, limit.value); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGroup, err)
	}
	return f, nil
}

func set(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrGroup, err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%w: %s to %q: %w", ErrGroup, filepath.Join(dir, file), value, err)
	}
	return nil
}

// The kernel takes a moment to see that the last process of a group is gone.
const (
	emptyTick = 10 * time.Millisecond
	emptyIn   = 2 * time.Second
)

// Remove removes a group whose processes have ended; one that is not there is
// fine.
func (p Parent) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, emptyIn)
	defer cancel()
	tick := time.NewTicker(emptyTick)
	defer tick.Stop()
	for {
		err := unix.Rmdir(filepath.Join(string(p), name))
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("%w: removing %s: %w", ErrGroup, name, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: removing %s: %w", ErrGroup, name, err)
		}
	}
}
