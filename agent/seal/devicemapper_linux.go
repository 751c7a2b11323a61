package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
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
	// dmSecureData has the kernel wipe its copy of the buffer, which holds
	// the key (DM_SECURE_DATA_FLAG).
	dmSecureData = 1 << 15
	// dmTargetBytes is the size of struct dm_target_spec.
	dmTargetBytes = 40
	// dmStatusBytes is room for one target's status.
	dmStatusBytes = 1 << 10
)

// deviceMapper is the kernel's device mapper
// (Documentation/admin-guide/device-mapper of the kernel).
type deviceMapper struct{ control *os.File }

func openDeviceMapper() (deviceMapper, error) {
	control, err := os.OpenFile(controlDevice, os.O_RDWR, 0)
	if err != nil {
		return deviceMapper{}, fmt.Errorf("opening device mapper: %w", err)
	}
	return deviceMapper{control}, nil
}

func (d deviceMapper) Close() error { return d.control.Close() }

// device is a block device's number.
type device struct{ major, minor uint32 }

func (d device) String() string { return fmt.Sprintf("%d:%d", d.major, d.minor) }

// path is the node that devtmpfs gives a mapped device, after its minor.
func (d device) path() string { return fmt.Sprintf("/dev/dm-%d", d.minor) }

// mapTarget makes a mapping of one target; none of one that fails is left.
func (d deviceMapper) mapTarget(name string, sectors uint64, kind, parameters string) (device, error) {
	created, err := d.ioctl(name, dmDevCreate, nil, 0)
	if err != nil {
		return device{}, fmt.Errorf("creating mapping %s: %w", name, err)
	}
	if _, err := d.ioctl(name, dmTableLoad, target(sectors, kind, parameters), 0); err != nil {
		return device{}, errors.Join(fmt.Errorf("loading mapping %s: %w", name, err), d.remove(name))
	}
	if _, err := d.ioctl(name, dmDevSuspend, nil, 0); err != nil {
		return device{}, errors.Join(fmt.Errorf("resuming mapping %s: %w", name, err), d.remove(name))
	}
	// struct dm_ioctl holds the new device's number at byte 40.
	number := binary.LittleEndian.Uint64(created[40:])
	return device{unix.Major(number), unix.Minor(number)}, nil
}

// remove removes a mapping; without one it does nothing.
func (d deviceMapper) remove(name string) error {
	if _, err := d.ioctl(name, dmDevRemove, nil, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("removing mapping %s: %w", name, err)
	}
	return nil
}

// status is what the only target of a mapping says of itself.
func (d deviceMapper) status(name string) (string, error) {
	b, err := d.ioctl(name, dmTableStatus, nil, dmStatusBytes)
	if err != nil {
		return "", fmt.Errorf("asking mapping %s: %w", name, err)
	}
	text, _, _ := bytes.Cut(b[dmIoctlBytes+dmTargetBytes:], []byte{0})
	return string(text), nil
}

// ioctl sends a struct dm_ioctl followed by payload, with room for an answer,
// and answers what came back.
func (d deviceMapper) ioctl(name string, request uint, payload []byte, room int) ([]byte, error) {
	b := make([]byte, dmIoctlBytes+max(len(payload), room))
	defer func() {
		if payload != nil {
			clear(b)
			clear(payload)
		}
	}()
	order := binary.LittleEndian
	order.PutUint32(b[0:], 4)               // version 4.0.0
	order.PutUint32(b[12:], uint32(len(b))) // data_size
	order.PutUint32(b[16:], dmIoctlBytes)   // data_start
	order.PutUint32(b[28:], dmSecureData)   // flags
	copy(b[48:48+128-1], name)              // name
	copy(b[dmIoctlBytes:], payload)
	if payload != nil {
		order.PutUint32(b[20:], 1) // target_count
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.control.Fd(), uintptr(request), uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return nil, errno
	}
	return append([]byte{}, b...), nil
}

// target lays out one struct dm_target_spec with its parameters, padded to
// eight bytes.
func target(sectors uint64, kind, parameters string) []byte {
	size := (dmTargetBytes + len(parameters) + 1 + 7) &^ 7
	b := make([]byte, size)
	binary.LittleEndian.PutUint64(b[8:], sectors)
	copy(b[24:24+15], kind)
	copy(b[dmTargetBytes:], parameters)
	return b
}

func blockDevice(path string) (sectors uint64, d device, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, d, fmt.Errorf("opening data disk: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, d, fmt.Errorf("looking at data disk: %w", err)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return 0, d, fmt.Errorf("measuring data disk: %w", err)
	}
	if size < minDiskBytes {
		return 0, d, fmt.Errorf("data disk has %d bytes, want %d at the least", size, minDiskBytes)
	}
	return uint64(size) / sectorBytes, device{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, nil
}
