package boot

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// DataMount is a place for the payload's data, owned by its user.
type DataMount struct {
	Path string
	// Volume is where all of the owner's volume is mounted, for the agent alone:
	// the data is one subvolume of it.
	Volume   string
	UID, GID int
}

const dataFlags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME

// Use is what the data on a device is mounted for.
type Use int

const (
	// UseSettled is the data, and nothing of an update beside it.
	UseSettled Use = iota
	// UseTrial is a copy of the data as it is, for a release that may have to give
	// it back.
	UseTrial
	// UseKept is the copy that a trial worked on, which is the data from then on.
	UseKept
	// UseRestored is the data as it was before a trial.
	UseRestored
)

// Device mounts the data on a btrfs block device, and lets it take the room that the
// disk has grown by. Errors are the kernel's.
func (m DataMount) Device(device string, use Use) error {
	if err := m.mountVolume(device); err != nil {
		return err
	}
	v := subvolumes{dir: m.Volume}
	if err := v.ready(use); err != nil {
		return fmt.Errorf("readying the data: %w", err)
	}
	name := dataSubvolume
	if use == UseTrial {
		name = trialSubvolume
	}
	if err := m.mount(device, "btrfs", "subvol="+name); err != nil {
		return err
	}
	size, err := sizeOf(device)
	if err != nil || size < leastResize {
		return err
	}
	return v.request("growing to the", btrfsResize, -1, placeName, "max")
}

func (m DataMount) mountVolume(device string) error {
	if err := os.MkdirAll(m.Volume, 0o700); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Volume, err)
	}
	// Else the subvolume that was made the default one, which none is.
	if err := unix.Mount(device, m.Volume, "btrfs", dataFlags, "subvolid=5"); err != nil {
		return fmt.Errorf("mounting %s: %w", m.Volume, err)
	}
	return os.Chmod(m.Volume, 0o700)
}

// KeepTrial makes the copy that a trial works on the data, while it is mounted.
// Errors are the kernel's; whatever a crash leaves, UseKept makes good.
func (m DataMount) KeepTrial() error {
	if err := (subvolumes{dir: m.Volume}).ready(UseKept); err != nil {
		return fmt.Errorf("keeping the trial's data: %w", err)
	}
	return nil
}

// Tidy removes what an update has left beside the data. Errors are the kernel's.
func (m DataMount) Tidy() error {
	if err := (subvolumes{dir: m.Volume}).ready(UseSettled); err != nil {
		return fmt.Errorf("tidying the data: %w", err)
	}
	return nil
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

// Unmount undoes Device or Memory; where nothing is mounted it does nothing.
// Errors are the kernel's.
func (m DataMount) Unmount() error {
	for _, path := range []string{m.Path, m.Volume} {
		err := unix.Unmount(path, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmounting %s: %w", path, err)
		}
	}
	return nil
}
