// Package proc names processes so that they can be found again by whoever did
// not start them, and watches them by descriptor.
//
// Invariants: a process is its pid, the tick it started at and the boot it
// started in, so a recycled pid is never taken for it; and a signal is sent
// through a descriptor that was opened before the identity was checked, so it
// never reaches a stranger.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process has ended.
var ErrGone = errors.New("process is gone")

// ID names one process for ever.
type ID struct {
	PID int `json:"pid"`
	// Start is the clock tick, counted from boot, at which it started.
	Start uint64 `json:"start"`
	// Boot is the kernel's random id of that boot.
	Boot string `json:"boot"`
}

// IsZero reports whether id names nothing.
func (id ID) IsZero() bool { return id == ID{} }

// BootID is the kernel's id of the running boot.
func BootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Identify names the process that has the pid now.
func Identify(pid int) (ID, error) {
	boot, err := BootID()
	if err != nil {
		return ID{}, err
	}
	start, err := startTime(pid)
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: start, Boot: boot}, nil
}

func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return 0, ErrGone
	}
	if err != nil {
		return 0, fmt.Errorf("reading the state of process %d: %w", pid, err)
	}
	return parseStart(b)
}

// parseStart reads the start time, field 22 of proc(5)'s stat. The second
// field is the program's name in parentheses and may hold anything, more
// parentheses too: the fields are counted from the last one.
func parseStart(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("process state has no name")
	}
	const startField, firstAfterName = 22, 3
	fields := strings.Fields(string(stat[end+1:]))
	if len(fields) <= startField-firstAfterName {
		return 0, fmt.Errorf("process state has %d fields after the name", len(fields))
	}
	start, err := strconv.ParseUint(fields[startField-firstAfterName], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("start time of the process: %w", err)
	}
	return start, nil
}

// Process is a descriptor of a process that was alive when it was opened.
type Process struct {
	ID ID
	fd int
}

// Open finds the process again; ErrGone where it has ended, whoever has its
// pid now.
func Open(id ID) (*Process, error) {
	if id.PID <= 0 {
		return nil, ErrGone
	}
	boot, err := BootID()
	if err != nil {
		return nil, err
	}
	if boot != id.Boot {
		return nil, ErrGone
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("opening process %d: %w", id.PID, err)
	}
	p := &Process{ID: id, fd: fd}
	start, err := startTime(id.PID)
	if err == nil && (start != id.Start || !p.Alive()) {
		err = ErrGone
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close lets go of the process.
func (p *Process) Close() error { return unix.Close(p.fd) }

// Alive reports whether the process runs; one that has ended but was not yet
// waited for does not.
func (p *Process) Alive() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err != nil || n == 0
}

// Signal sends a signal; ErrGone where the process has ended.
func (p *Process) Signal(sig unix.Signal) error {
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	if err != nil {
		return fmt.Errorf("signalling process %d: %w", p.ID.PID, err)
	}
	return nil
}

// Wait returns nil when the process has ended, or ctx's error.
func (p *Process) Wait(ctx context.Context) error {
	fd, err := unix.FcntlInt(uintptr(p.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("watching process %d: %w", p.ID.PID, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return errors.Join(fmt.Errorf("watching process %d: %w", p.ID.PID, err), unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("watching process %d: %w", p.ID.PID, err)
	}
	err = raw.Read(func(uintptr) bool { return !p.Alive() })
	switch {
	case !p.Alive():
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("watching process %d: %w", p.ID.PID, err)
	}
}

// End asks the process to end, waits for at most grace, then kills it.
func (p *Process) End(ctx context.Context, grace time.Duration) error {
	if err := p.Signal(unix.SIGTERM); err != nil {
		return ignoreGone(err)
	}
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := p.Wait(patient); err == nil {
		return nil
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		return ignoreGone(err)
	}
	return p.Wait(ctx)
}

func ignoreGone(err error) error {
	if errors.Is(err, ErrGone) {
		return nil
	}
	return err
}

// Found is a process with its command line.
type Found struct {
	ID   ID
	Args []string
}

// Scan names the processes whose command line match accepts.
func Scan(match func(args []string) bool) ([]Found, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var found []Found
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err != nil || len(cmdline) == 0 {
			// It ended meanwhile, or is the kernel's own.
			continue
		}
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if !match(args) {
			continue
		}
		id, err := Identify(pid)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, Found{ID: id, Args: args})
	}
	return found, nil
}
