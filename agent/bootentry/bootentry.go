// Package bootentry has the firmware start another file of the EFI system partition
// once, by the variable BootNext.
//
// Invariants: BootOrder and the entries in it are never written, since register 1
// has them; what is written is an entry that nothing but BootNext names, and is
// taken away by the boot that it led to. What the variables say is the host's word:
// it decides what is tried, and nothing that is proved or opened.
package bootentry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// Root is where the kernel has the firmware's variables (Linux,
// Documentation/filesystems/efivarfs.rst).
const Root = "/sys/firmware/efi/efivars"

// Variables of the UEFI specification 2.10, section 3.3, under its vendor GUID.
const (
	global = "-8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// number is of our entry: no firmware that counts from 0 comes to it.
	number  = 0x5ed0
	entry   = "Boot5ED0" + global
	next    = "BootNext" + global
	current = "BootCurrent" + global
	secure  = "SecureBoot" + global
)

// Attributes of a variable (section 8.2.1): kept, and there for the firmware and
// for a running system. Four bytes of them begin each file.
const (
	attributes     = 0x07
	attributeBytes = 4
)

// ErrNoVariables says that the firmware lets nobody at its variables.
var ErrNoVariables = errors.New("the firmware's variables are not there")

// File is what is to be started.
type File struct {
	// Partition counts from 1; FirstLBA and Sectors are in sectors of 512 bytes, and
	// GUID is the partition's own, as it lies on the disk.
	Partition uint32
	FirstLBA  uint64
	Sectors   uint64
	GUID      [16]byte
	// Path has slashes.
	Path string
}

// Variables are the firmware's, in a directory as the kernel has them.
type Variables string

// StartOnce has the next boot start a file, and that one alone. Errors are
// ErrNoVariables, or the kernel's.
func (v Variables) StartOnce(f File) error {
	if err := v.write(entry, f.option(v.controller())); err != nil {
		return err
	}
	return v.write(next, binary.LittleEndian.AppendUint16(nil, number))
}

// Asked says that StartOnce was called and Forget was not. Errors are as
// StartOnce's.
func (v Variables) Asked() (bool, error) {
	if err := v.there(); err != nil {
		return false, err
	}
	_, err := os.Stat(v.path(entry))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Forget takes back what StartOnce wrote; where there is nothing it does nothing.
// Errors are as StartOnce's.
func (v Variables) Forget() error {
	if err := v.there(); err != nil {
		return err
	}
	// The order in which a cut of the power leaves no name of a missing entry.
	for _, name := range []string{next, entry} {
		if err := os.Remove(v.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forgetting a boot variable: %w", err)
		}
	}
	return nil
}

// SecureBoot says that the firmware refuses what is not signed for it. Errors are as
// StartOnce's.
func (v Variables) SecureBoot() (bool, error) {
	b, err := v.read(secure, 1)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && b[0] == 1, err
}

func (v Variables) path(name string) string { return filepath.Join(string(v), name) }

// there tells firmware without variables from one without ours.
func (v Variables) there() error {
	entries, err := os.ReadDir(string(v))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the boot variables: %w", err)
	}
	if len(entries) == 0 {
		return ErrNoVariables
	}
	return nil
}

func (v Variables) read(name string, bytes int) ([]byte, error) {
	if err := v.there(); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(v.path(name))
	if err != nil {
		return nil, fmt.Errorf("reading a boot variable: %w", err)
	}
	if len(b) != attributeBytes+bytes {
		return nil, fmt.Errorf("reading a boot variable: %.12s has %d bytes, want %d", name, len(b), attributeBytes+bytes)
	}
	return b[attributeBytes:], nil
}

// write writes a variable whole: the kernel takes one by one write.
func (v Variables) write(name string, value []byte) error {
	if err := v.there(); err != nil {
		return err
	}
	f, err := os.OpenFile(v.path(name), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("writing a boot variable: %w", err)
	}
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, attributes), value...))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing a boot variable: %w", err)
	}
	return nil
}

// Device paths of the UEFI specification 2.10, sections 10.3.5.1 (a partition),
// 10.3.5.4 (a file) and 10.3.1 (the end).
const (
	optionActive = 1
	optionBytes  = 6
	nodeBytes    = 4
	typeEnd      = 0x7f
	typeMedia    = 4
	subtypeDrive = 1
	driveBytes   = 42
	subtypeFile  = 4
	formatGPT    = 2
	signedByGUID = 2
)

// maxOption caps what is read of an option of the firmware's.
const maxOption = 4 << 10

// controller is the way to the disk that this boot is from, as the firmware's own
// option has it: with it the firmware need not look for the partition on every disk.
// Where the option says nothing of it that is nil, and the firmware looks.
func (v Variables) controller() []byte {
	b, err := v.read(current, 2)
	if err != nil {
		return nil
	}
	name := fmt.Sprintf("Boot%04X", binary.LittleEndian.Uint16(b)) + global
	if b, err = os.ReadFile(v.path(name)); err != nil || len(b) > maxOption || len(b) < attributeBytes+optionBytes {
		return nil
	}
	b = b[attributeBytes:]
	length := int(binary.LittleEndian.Uint16(b[4:]))
	for b = b[optionBytes:]; ; b = b[2:] {
		if len(b) < 2 {
			return nil
		}
		if b[0] == 0 && b[1] == 0 {
			break
		}
	}
	return beforeMedia(b[2:min(len(b), 2+length)])
}

// beforeMedia is as much of a device path as is before what is on a medium.
func beforeMedia(path []byte) []byte {
	for at := 0; at+nodeBytes <= len(path); {
		n := int(binary.LittleEndian.Uint16(path[at+2:]))
		switch {
		case path[at] == typeMedia || path[at] == typeEnd:
			return path[:at:at]
		case n < nodeBytes:
			return nil
		}
		at += n
	}
	return nil
}

// option is an EFI_LOAD_OPTION (section 3.1.3); controller may be empty.
func (f File) option(controller []byte) []byte {
	little := binary.LittleEndian
	drive := []byte{typeMedia, subtypeDrive, driveBytes, 0}
	drive = little.AppendUint32(drive, f.Partition)
	drive = little.AppendUint64(drive, f.FirstLBA)
	drive = little.AppendUint64(drive, f.Sectors)
	drive = append(append(drive, f.GUID[:]...), formatGPT, signedByGUID)
	path := text(`\` + strings.ReplaceAll(f.Path, "/", `\`))
	file := little.AppendUint16([]byte{typeMedia, subtypeFile}, uint16(4+len(path)))
	device := append(append(append(controller, drive...), file...), path...)
	device = append(device, 0x7f, 0xff, 4, 0)
	b := little.AppendUint32(nil, optionActive)
	b = little.AppendUint16(b, uint16(len(device)))
	return append(append(b, text("Shed, the next release")...), device...)
}

// text is UTF-16, with its NUL.
func text(s string) (b []byte) {
	for _, c := range append(utf16.Encode([]rune(s)), 0) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}
