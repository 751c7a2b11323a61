package seal

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// DMCrypt maps a disk through the kernel's device mapper
// (Documentation/admin-guide/device-mapper/dm-crypt.rst of the kernel). Cipher,
// offset and sector size are constants: a header on disk could be forged.
type DMCrypt struct {
	// Name is the mapping's name.
	Name string
}

var _ Mapper = (*DMCrypt)(nil)

const (
	dmCipher      = "aes-xts-plain64"
	sectorBytes   = 512
	cryptSector   = 4096
	controlDevice = "/dev/mapper/control"
)

// The device mapper's ioctls (include/uapi/linux/dm-ioctl.h): _IOWR(0xfd, n,
// struct dm_ioctl), whose size is 312.
const (
	dmIoctlBytes = 312
	dmDevCreate  = 0xc138fd03
	dmDevRemove  = 0xc138fd04
	dmDevSuspend = 0xc138fd06
	dmTableLoad  = 0xc138fd09
	// dmSecureData has the kernel wipe its copy of the buffer, which holds
	// the key (DM_SECURE_DATA_FLAG).
	dmSecureData = 1 << 15
	// dmTargetBytes is the size of struct dm_target_spec.
	dmTargetBytes = 40
)

// Map creates the mapping, loads its table and resumes it. Errors are device
// mapper's; none of a failed mapping is left.
func (m *DMCrypt) Map(disk string, key []byte) (string, error) {
	sectors, major, minor, err := blockDevice(disk)
	if err != nil {
		return "", err
	}
	control, err := os.OpenFile(controlDevice, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("opening device mapper: %w", err)
	}
	defer control.Close()
	created, err := m.ioctl(control, dmDevCreate, nil)
	if err != nil {
		return "", fmt.Errorf("creating mapping: %w", err)
	}
	const skip = payloadOffset / sectorBytes
	length := (sectors - skip) &^ (cryptSector/sectorBytes - 1)
	table := fmt.Sprintf("%s %s 0 %d:%d %d 1 sector_size:%d", dmCipher, hex.EncodeToString(key), major, minor, skip, cryptSector)
	if _, err := m.ioctl(control, dmTableLoad, target(length, "crypt", table)); err != nil {
		return "", errors.Join(fmt.Errorf("loading mapping: %w", err), m.Unmap())
	}
	if _, err := m.ioctl(control, dmDevSuspend, nil); err != nil {
		return "", errors.Join(fmt.Errorf("resuming mapping: %w", err), m.Unmap())
	}
	// struct dm_ioctl holds the new device's number at byte 40; devtmpfs names
	// the node after its minor.
	dev := binary.LittleEndian.Uint64(created[40:])
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(dev)), nil
}

// Unmap removes the mapping; without one it does nothing. Errors are device
// mapper's.
func (m *DMCrypt) Unmap() error {
	control, err := os.OpenFile(controlDevice, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening device mapper: %w", err)
	}
	defer control.Close()
	if _, err := m.ioctl(control, dmDevRemove, nil); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("removing mapping: %w", err)
	}
	return nil
}

// ioctl sends a struct dm_ioctl followed by payload and answers what came back.
func (m *DMCrypt) ioctl(control *os.File, request uint, payload []byte) ([]byte, error) {
	b := make([]byte, dmIoctlBytes+len(payload))
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
	copy(b[48:48+128-1], m.Name)            // name
	copy(b[dmIoctlBytes:], payload)
	if payload != nil {
		order.PutUint32(b[20:], 1) // target_count
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), uintptr(request), uintptr(unsafe.Pointer(&b[0])))
	if errno != 0 {
		return nil, errno
	}
	return append([]byte{}, b[:dmIoctlBytes]...), nil
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

func blockDevice(path string) (sectors uint64, major, minor uint32, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("opening data disk: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, 0, fmt.Errorf("looking at data disk: %w", err)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("measuring data disk: %w", err)
	}
	if size < 2*blankProbe {
		return 0, 0, 0, fmt.Errorf("data disk has %d bytes, want %d at the least", size, 2*blankProbe)
	}
	return uint64(size) / sectorBytes, unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}
