package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The subvolumes of the owner's volume. During a trial there is a copy of the data
// beside it; while the copy takes its place, the data before.
const (
	dataSubvolume   = "data"
	trialSubvolume  = "trial"
	beforeSubvolume = "before"
)

// subvolumes are those of the file system that is mounted at dir.
type subvolumes struct{ dir string }

// ready has the subvolumes as a use of them wants it. Each is a few steps, of which
// the kernel keeps the order; whatever a crash has left, the next call goes on
// from.
func (v subvolumes) ready(use Use) error {
	if err := v.ensureData(use); err != nil {
		return err
	}
	switch use {
	case UseTrial:
		return errors.Join(v.remove(trialSubvolume), v.copy(dataSubvolume, trialSubvolume))
	case UseKept:
		return v.keep()
	case UseRestored:
		return v.restore()
	}
	return v.settle()
}

// settle removes what is beside the data. Data that was on its way is put in its
// place first, whoever left it there.
func (v subvolumes) settle() error {
	for _, name := range []string{trialSubvolume, beforeSubvolume} {
		there, err := v.has(dataSubvolume)
		if err == nil && !there {
			err = v.move(name, dataSubvolume)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(v.remove(trialSubvolume), v.remove(beforeSubvolume), v.sync())
}

// ensureData makes the data of a volume that has none yet: one that was just made.
func (v subvolumes) ensureData(use Use) error {
	for _, name := range []string{dataSubvolume, trialSubvolume, beforeSubvolume} {
		there, err := v.has(name)
		if err != nil || there {
			return err
		}
	}
	if use != UseSettled {
		return fmt.Errorf("there is no data: %w", fs.ErrNotExist)
	}
	return v.create(dataSubvolume)
}

// keep moves the data out of the way of the trial's.
func (v subvolumes) keep() error {
	trial, err := v.has(trialSubvolume)
	if err != nil || !trial {
		return err
	}
	if there, err := v.has(dataSubvolume); err != nil || there {
		if err := errors.Join(err, v.remove(beforeSubvolume), v.move(dataSubvolume, beforeSubvolume)); err != nil {
			return err
		}
	}
	return errors.Join(v.move(trialSubvolume, dataSubvolume), v.sync())
}

// restore takes back what keep has moved.
func (v subvolumes) restore() error {
	before, err := v.has(beforeSubvolume)
	if err != nil {
		return err
	}
	if before {
		if err := errors.Join(v.remove(dataSubvolume), v.move(beforeSubvolume, dataSubvolume)); err != nil {
			return err
		}
	}
	return errors.Join(v.remove(trialSubvolume), v.sync())
}

func (v subvolumes) path(name string) string { return filepath.Join(v.dir, name) }

func (v subvolumes) has(name string) (bool, error) {
	_, err := os.Stat(v.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// move renames a subvolume; one that is not there was moved before.
func (v subvolumes) move(from, to string) error {
	err := os.Rename(v.path(from), v.path(to))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Requests of btrfs (include/uapi/linux/btrfs.h), whose arguments have 4,096 bytes:
// a descriptor and a name, or for a copy a name behind other things.
const (
	btrfsResize        = 0x50009403
	btrfsCreate        = 0x5000940e
	btrfsDestroy       = 0x5000940f
	btrfsCopy          = 0x50009417
	btrfsArgumentBytes = 4096
	placeName          = 8
	placeCopyName      = 56
)

func (v subvolumes) create(name string) error {
	return v.request("making", btrfsCreate, -1, placeName, name)
}

// remove removes a subvolume, where there is one.
func (v subvolumes) remove(name string) error {
	if there, err := v.has(name); err != nil || !there {
		return err
	}
	return v.request("removing", btrfsDestroy, -1, placeName, name)
}

// copy makes a writable snapshot.
func (v subvolumes) copy(from, to string) error {
	source, err := os.Open(v.path(from))
	if err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	defer source.Close() //nolint:errcheck // it was only copied
	return v.request("copying to", btrfsCopy, int(source.Fd()), placeCopyName, to)
}

func (v subvolumes) request(doing string, request uintptr, descriptor, at int, name string) error {
	dir, err := os.Open(v.dir)
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, name, err)
	}
	defer dir.Close() //nolint:errcheck // it was only asked
	var args [btrfsArgumentBytes]byte
	if descriptor >= 0 {
		*(*int64)(unsafe.Pointer(&args[0])) = int64(descriptor)
	}
	copy(args[at:len(args)-1], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), request, uintptr(unsafe.Pointer(&args[0]))); errno != 0 {
		return fmt.Errorf("%s %s: %w", doing, name, errno)
	}
	return nil
}

// sync has the moves before it outlive the power.
func (v subvolumes) sync() error {
	dir, err := os.Open(v.dir)
	if err != nil {
		return fmt.Errorf("syncing the data: %w", err)
	}
	defer dir.Close() //nolint:errcheck // it was only asked
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("syncing the data: %w", err)
	}
	return nil
}
