// Package devicemapper maps block devices onto others through the kernel's device
// mapper.
//
// Invariants: none of a mapping that fails is left; what a table says is wiped from
// memory once the kernel has it, since it may hold a key.
package devicemapper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const controlDevice = "/dev/mapper/control"

// The device mapper's ioctls (include/uapi/linux/dm-ioctl.h): _IOWR(0xfd, n,
// struct dm_ioctl), whose size is 312.
const (
	dmIoctlBytes  = 312
	dmDevCreate   = 0xc138fd03
	dmDevRemove   = 0xc138fd04
	dmDevSuspend  = 0xc138fd06
	dmTableLoad   = 0xc138fd09
	dmTableStatus = 0xc138fd0c
	// dmReadOnly is DM_READONLY_FLAG.
	dmReadOnly = 1 << 0
	// dmSecureData has the kernel wipe its copy of the buffer, which holds
	// the key (DM_SECURE_DATA_FLAG).
	dmSecureData = 1 << 15
	// dmTargetBytes is the size of struct dm_target_spec.
	dmTargetBytes = 40
	// dmStatusBytes is room for one target's status.
	dmStatusBytes = 1 << 10
)

// Mapper is the kernel's device mapper
// (Documentation/admin-guide/device-mapper of the kernel).
type Mapper struct{ control *os.File }

// Open opens the device mapper. The error is the system's.
func Open() (Mapper, error) {
	control, err := os.OpenFile(controlDevice, os.O_RDWR, 0)
	if err != nil {
		return Mapper{}, fmt.Errorf("opening device mapper: %w", err)
	}
	return Mapper{control}, nil
}

// Close lets go of it; what is mapped stays.
func (d Mapper) Close() error { return d.control.Close() }

// Device is a block device's number.
type Device struct{ Major, Minor uint32 }

// String is how a table names it.
func (d Device) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Path is the node that devtmpfs gives a mapped device, after its minor.
func (d Device) Path() string { return fmt.Sprintf("/dev/dm-%d", d.Minor) }

// Target is a part of a mapping, behind the one before it.
type Target struct {
	Sectors uint64
	// Kind and Parameters are as the kernel documents them.
	Kind, Parameters string
}

// Map makes a mapping of its targets; none of one that fails is left. Errors are
// the kernel's.
func (d Mapper) Map(name string, targets ...Target) (Device, error) {
	return d.load(name, 0, targets)
}

// MapReadOnly is Map for a device that nobody writes.
func (d Mapper) MapReadOnly(name string, targets ...Target) (Device, error) {
	return d.load(name, dmReadOnly, targets)
}

func (d Mapper) load(name string, flags uint32, targets []Target) (Device, error) {
	created, err := d.ioctl(name, dmDevCreate, 0, message{})
	if err != nil {
		return Device{}, fmt.Errorf("creating mapping %s: %w", name, err)
	}
	if _, err := d.ioctl(name, dmTableLoad, flags, message{table(targets), len(targets), 0}); err != nil {
		return Device{}, errors.Join(fmt.Errorf("loading mapping %s: %w", name, err), d.Remove(name))
	}
	if _, err := d.ioctl(name, dmDevSuspend, 0, message{}); err != nil {
		return Device{}, errors.Join(fmt.Errorf("resuming mapping %s: %w", name, err), d.Remove(name))
	}
	// struct dm_ioctl holds the new device's number at byte 40.
	number := binary.LittleEndian.Uint64(created[40:])
	return Device{unix.Major(number), unix.Minor(number)}, nil
}

// Remove removes a mapping; without one it does nothing. Errors are the kernel's.
func (d Mapper) Remove(name string) error {
	if _, err := d.ioctl(name, dmDevRemove, 0, message{}); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("removing mapping %s: %w", name, err)
	}
	return nil
}

// Status is what the only target of a mapping says of itself. Errors are the
// kernel's.
func (d Mapper) Status(name string) (string, error) {
	b, err := d.ioctl(name, dmTableStatus, 0, message{room: dmStatusBytes})
	if err != nil {
		return "", fmt.Errorf("asking mapping %s: %w", name, err)
	}
	text, _, _ := bytes.Cut(b[dmIoctlBytes+dmTargetBytes:], []byte{0})
	return string(text), nil
}

// message is what follows a struct dm_ioctl, with room for an answer.
type message struct {
	payload []byte
	targets int
	room    int
}

// ioctl sends a message and answers what came back. The payload is wiped.
func (d Mapper) ioctl(name string, request uint, flags uint32, m message) ([]byte, error) {
	b := make([]byte, dmIoctlBytes+max(len(m.payload), m.room))
	defer func() {
		if m.payload != nil {
			clear(b)
			clear(m.payload)
		}
	}()
	order := binary.LittleEndian
	order.PutUint32(b[0:], 4)                  // version 4.0.0
	order.PutUint32(b[12:], uint32(len(b)))    // data_size
	order.PutUint32(b[16:], dmIoctlBytes)      // data_start
	order.PutUint32(b[20:], uint32(m.targets)) // target_count
	order.PutUint32(b[28:], dmSecureData|flags)
	copy(b[48:48+128-1], name) // name
	copy(b[dmIoctlBytes:], m.payload)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.control.Fd(), uintptr(request), uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return nil, errno
	}
	return append([]byte{}, b...), nil
}

// table lays out a struct dm_target_spec for each target, with its parameters,
// padded to eight bytes.
func table(targets []Target) []byte {
	var b []byte
	start := uint64(0)
	for _, t := range targets {
		size := (dmTargetBytes + len(t.Parameters) + 1 + 7) &^ 7
		one := make([]byte, size)
		binary.LittleEndian.PutUint64(one[0:], start)
		binary.LittleEndian.PutUint64(one[8:], t.Sectors)
		binary.LittleEndian.PutUint32(one[20:], uint32(size))
		copy(one[24:24+15], t.Kind)
		copy(one[dmTargetBytes:], t.Parameters)
		b = append(b, one...)
		start += t.Sectors
	}
	return b
}

// Block is a block device's size in bytes, and its number. Errors are the
// system's.
func Block(path string) (size int64, d Device, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, d, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, d, fmt.Errorf("looking at %s: %w", path, err)
	}
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, d, fmt.Errorf("measuring %s: %w", path, err)
	}
	return size, Device{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, nil
}
