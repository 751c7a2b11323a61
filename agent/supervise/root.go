package supervise

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// devices are all that a payload has: what a server reads and throws away.
var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9},
}

// links are of its own descriptors.
var links = map[string]string{"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}

const inert = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// shared is the room for memory that its processes share, which counts as
// theirs.
const shared = "mode=1777,size=64m"

// enterRoot makes the payload's directory its root, read-only, with its own
// processes, devices, and the places that it shares with the machine. What was
// the root lies below, where only a capability would lead.
func (o *order) enterRoot() error {
	if o.Root == "" {
		if err := os.Chdir(o.Dir); err != nil {
			return fmt.Errorf("entering the payload's data: %w", err)
		}
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("parting from the machine's mounts: %w", err)
	}
	if err := bind(o.Root, o.Root, unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV); err != nil {
		return err
	}
	for _, place := range o.Places {
		if err := bind(place, filepath.Join(o.Root, place), inert); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", filepath.Join(o.Root, "proc"), "proc", inert, ""); err != nil {
		return fmt.Errorf("mounting the payload's processes: %w", err)
	}
	if err := mountDevices(filepath.Join(o.Root, "dev")); err != nil {
		return fmt.Errorf("making the payload's devices: %w", err)
	}
	if err := os.Chdir(o.Root); err != nil {
		return fmt.Errorf("entering the payload's root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the payload's root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("entering the payload's root: %w", err)
	}
	if err := os.Chdir(o.Dir); err != nil {
		return fmt.Errorf("entering the payload's data: %w", err)
	}
	return nil
}

// bind shows a directory at another path too; the kernel takes flags for it only
// once it is there.
func bind(from, to string, flags uintptr) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("showing the payload %s: %w", from, err)
	}
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return fmt.Errorf("showing the payload %s: %w", from, err)
	}
	return nil
}

func mountDevices(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return err
	}
	for _, d := range devices {
		path := filepath.Join(dir, d.name)
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		// The agent's umask takes from what was asked.
		if err := os.Chmod(path, 0o666); err != nil {
			return err
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dir, "shm")
	if err := os.Mkdir(shm, 0o755); err != nil {
		return err
	}
	return unix.Mount("tmpfs", shm, "tmpfs", inert, shared)
}
