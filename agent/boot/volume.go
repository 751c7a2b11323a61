package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// mke2fs is the one program in the image that is not ours; its options leave
// to the first mount what need not be written now.
const mke2fs = "/sbin/mke2fs"

// Format makes an ext4 file system on a block device. Errors are mke2fs's,
// with what it said.
func Format(ctx context.Context, device string) error {
	cmd := exec.CommandContext(ctx, mke2fs, "-q", "-F", "-t", "ext4", "-m", "0",
		"-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", device)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	return nil
}

// DataMount is a place for the payload's data, owned by its user.
type DataMount struct {
	Path     string
	UID, GID int
}

const dataFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// Device mounts an ext4 block device. Errors are the kernel's.
func (m DataMount) Device(device string) error {
	return m.mount(device, "ext4", "")
}

// Memory mounts a small file system in memory, for a payload that has no owner
// yet. Errors are the kernel's.
func (m DataMount) Memory() error {
	return m.mount("tmpfs", "tmpfs", "size=64m")
}

func (m DataMount) mount(source, kind, data string) error {
	if err := os.MkdirAll(m.Path, 0o755); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Path, err)
	}
	if err := unix.Mount(source, m.Path, kind, dataFlags, data); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Path, err)
	}
	if err := os.Chown(m.Path, m.UID, m.GID); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Path, err)
	}
	return os.Chmod(m.Path, 0o700)
}

// Unmount undoes the last mount; where nothing is mounted it does nothing.
// Errors are the kernel's.
func (m DataMount) Unmount() error {
	err := unix.Unmount(m.Path, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting %s: %w", m.Path, err)
	}
	return nil
}
