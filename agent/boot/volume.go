package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mkfs is the one program in the image that is not ours.
const mkfs = "/sbin/mkfs.btrfs"

// A sector that was never written has no tag, and reads as an error. These are
// the ones that mkfs.btrfs looks at before it writes (tried with 6.2): where
// superblocks of any file system may be, and the end.
const (
	probed       = 1 << 20
	secondMirror = 64 << 20
)

// Format makes a btrfs file system on a block device: one that has checksums
// over everything, so that an older sector in the place of a newer one is an
// error. They are SHA-256 ones: whoever chooses what a user stores could else
// choose two contents of the same checksum. Errors are the device's and those
// of mkfs.btrfs, with what it said.
func Format(ctx context.Context, device string) error {
	if err := writeProbed(device); err != nil {
		return fmt.Errorf("readying the data disk: %w", err)
	}
	cmd := exec.CommandContext(ctx, mkfs, "--quiet", "--force", "--nodiscard", "--csum", "sha256",
		"--metadata", "single", "--data", "single", device)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.btrfs: %w: %s", err, out)
	}
	return nil
}

func writeProbed(device string) error {
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, io.SeekEnd)
	zero := make([]byte, probed)
	for _, at := range []int64{0, secondMirror, size - probed} {
		if err == nil && at >= 0 && at+probed <= size {
			_, err = f.WriteAt(zero, at)
		}
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// DataMount is a place for the payload's data, owned by its user.
type DataMount struct {
	Path     string
	UID, GID int
}

const dataFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME

// Device mounts a btrfs block device, and lets it take the room that the disk
// has grown by. Errors are the kernel's.
func (m DataMount) Device(device string) error {
	if err := m.mount(device, "btrfs", ""); err != nil {
		return err
	}
	size, err := sizeOf(device)
	if err != nil || size < leastResize {
		return err
	}
	return m.grow()
}

// leastResize is the size under which btrfs takes no request to resize
// (btrfs_ioctl_resize, Linux 6.12).
const leastResize = 256 << 20

func sizeOf(device string) (int64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, fmt.Errorf("measuring the data disk: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only measured
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("measuring the data disk: %w", err)
	}
	return size, nil
}

// btrfsResize is BTRFS_IOC_RESIZE (include/uapi/linux/btrfs.h): _IOW(0x94, 3,
// struct btrfs_ioctl_vol_args), whose size is 4096.
const btrfsResize = 0x50009403

func (m DataMount) grow() error {
	f, err := os.Open(m.Path)
	if err != nil {
		return fmt.Errorf("growing the data: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only asked
	var args [4096]byte
	// The name follows a descriptor of eight bytes, which it makes no use of.
	copy(args[8:], "max")
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), btrfsResize, uintptr(unsafe.Pointer(&args[0]))); errno != 0 {
		return fmt.Errorf("growing the data: %w", errno)
	}
	return nil
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
