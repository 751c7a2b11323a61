// Package boot readies a bare machine: file systems, kernel modules, disks,
// the configuration drive, the network and the power button.
//
// Invariants: it runs as PID 1 of an image that holds nothing else; nothing
// from outside is parsed before it is measured; the network comes up once nothing
// can be unsealed any more; a disk is found by what it is and what is on it, never
// by its name.
package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type mountPoint struct {
	kind, target string
	flags        uintptr
	data         string
}

// mounts are the file systems of a bare machine. None may hold devices or
// set-user-id programs but /dev itself.
var mounts = []mountPoint{
	// Whoever is not root sees no process but its own (proc(5), hidepid).
	{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "hidepid=2"},
	{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=0755,size=16m"},
	{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=1777,size=64m"},
}

// File systems of /sys that not every kernel has.
var (
	// security holds the firmware's event log.
	security = mountPoint{"securityfs", "/sys/kernel/security", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}
	// variables are the firmware's.
	variables = mountPoint{"efivarfs", "/sys/firmware/efi/efivars", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}
	// config holds the reports of a confidential VM.
	config = mountPoint{"configfs", "/sys/kernel/config", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""}
)

// Mount mounts the machine's file systems. One that is mounted already stays.
// Errors are the kernel's.
func Mount() error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
		if err := m.mount(); err != nil {
			return err
		}
	}
	return security.mountIfThere()
}

// mountIfThere passes over a file system that this kernel lacks, or has no
// directory for.
func (m mountPoint) mountIfThere() error {
	if err := m.mount(); !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func (m mountPoint) mount() error {
	if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting %s: %w", m.target, err)
	}
	return nil
}

// LoadModules loads the kernel modules that list names, a path a line, in that
// order. One that is loaded already is passed over, and so is one for hardware
// that this machine lacks. Errors are the kernel's.
func LoadModules(list string) error {
	b, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("reading module list: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if path := strings.TrimSpace(line); path != "" {
			if err := loadModule(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadModule leaves an empty file behind: nobody needs the rest, and all of the root
// is memory.
func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("loading module: %w", err)
	}
	defer f.Close()
	if loaded(f) {
		return nil
	}
	err = uninterrupted(func() error { return unix.FinitModule(int(f.Fd()), "", 0) })
	switch {
	case isThere(err):
		// Who loads another list may be reading it, and empties it then.
		os.Truncate(path, 0) //nolint:errcheck // it takes memory, and no more
	case !loaded(f):
		return fmt.Errorf("loading module %s: %w", filepath.Base(path), err)
	}
	return nil
}

// uninterrupted is a system call that no signal ends. Waiting for whoever loads the
// same module at this moment ends with any, and the runtime sends some (Linux 6.11,
// idempotent_wait_for_completion).
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// isThere says whether a module need not be loaded any more, or cannot be of use here.
// A file is written by nobody but who has loaded it and is emptying it.
func isThere(err error) bool {
	return err == nil || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ETXTBSY)
}

// loaded says that loadModule is through with a file.
func loaded(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Size() == 0
}

// consoleOff is SYSLOG_ACTION_CONSOLE_OFF (syslog(2)).
const consoleOff = 6

// SilenceKernel keeps all but emergencies of the kernel's own messages off the
// console from here on: they name processes, for example those ended for want
// of memory, and a payload chooses the names of its own.
func SilenceKernel() error {
	if _, err := unix.Klogctl(consoleOff, nil); err != nil {
		return fmt.Errorf("keeping the kernel off the console: %w", err)
	}
	return nil
}

// ErrNoDisk says that no disk has the serial.
var ErrNoDisk = errors.New("no such disk")

// FindDisk waits for the virtio disk with a serial number, which the provider
// gave it, and answers its device.
// The error is ErrNoDisk where none has appeared within the limit.
func FindDisk(serial string, limit time.Duration) (string, error) {
	for deadline := time.Now().Add(limit); ; {
		paths, err := filepath.Glob("/sys/block/*/serial")
		if err != nil {
			return "", fmt.Errorf("looking for disk %s: %w", serial, err)
		}
		for _, path := range paths {
			if b, err := os.ReadFile(path); err == nil && string(bytes.TrimSpace(b)) == serial {
				return "/dev/" + filepath.Base(filepath.Dir(path)), nil
			}
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("disk %s: %w", serial, ErrNoDisk)
		}
		time.Sleep(pollInterval)
	}
}

// FindImage answers the device of the disk that holds an image, as holds says. The
// error is ErrNoDisk where none does.
func FindImage(holds func(device string) bool) (string, error) {
	paths, err := filepath.Glob("/sys/block/*/device")
	if err != nil {
		return "", fmt.Errorf("looking for the boot disk: %w", err)
	}
	for _, path := range paths {
		if device := "/dev/" + filepath.Base(filepath.Dir(path)); holds(device) {
			return device, nil
		}
	}
	return "", fmt.Errorf("boot disk: %w", ErrNoDisk)
}

// WaitFor waits for a device node to appear. The error is fs.ErrNotExist once
// the limit has passed.
func WaitFor(path string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; {
		_, err := os.Stat(path)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting for %s: %w", path, err)
		}
		time.Sleep(pollInterval)
	}
}

// pollInterval is short: it is added to every boot.
const pollInterval = 5 * time.Millisecond

// ReadDrive reads at most limit bytes from the start of a drive. Errors are
// the device's.
func ReadDrive(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading config drive: %w", err)
	}
	defer f.Close()
	b := make([]byte, limit)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("reading config drive: %w", err)
	}
	return b[:n], nil
}

// MountVariables has the firmware's variables at hand, from a list beside the one
// given: a boot with nothing to try does without. Errors are the kernel's.
func MountVariables(list string) error {
	if err := LoadModules(list + ".efivarfs"); err != nil {
		return err
	}
	return variables.mountIfThere()
}

// Restart syncs and starts the machine anew. It does not return where it succeeds.
// Errors are the kernel's.
func Restart() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// PowerOff syncs and cuts the power. It does not return where it succeeds.
// Errors are the kernel's.
func PowerOff() error {
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
