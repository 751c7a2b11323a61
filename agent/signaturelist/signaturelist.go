// Package signaturelist changes the lists by which firmware with Secure Boot on tells
// what it starts: the variables db and dbx.
//
// Invariants: no other variable is written; each by one write, whole or not at all,
// and the firmware takes it only from whoever KEK lists. What the kernel says of a
// write is its host's word: nothing is opened by it.
package signaturelist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// The namespace of both lists, EFI_IMAGE_SECURITY_DATABASE_GUID (UEFI specification
// 2.10, section 32.6.1): as files of the kernel's end in it, and as it lies in memory.
const imageSecurity = "-d719b2cb-3d3a-4596-a3bc-dad00e67656f"

var imageSecurityGUID = [16]byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}

// attributes are those that both lists have (section 8.2.1): kept, there for the
// firmware and for a running system, and written by signature. Four bytes of them
// begin each file.
const attributes = 0x27

// ErrVariable says that a name is of neither list.
var ErrVariable = errors.New("neither db nor dbx")

// Variables are the firmware's, in a directory as the kernel has them.
type Variables string

func (v Variables) path(variable string) (string, error) {
	if variable != release.VariableDB && variable != release.VariableDBX {
		return "", fmt.Errorf("%q: %w", variable, ErrVariable)
	}
	return filepath.Join(string(v), variable+imageSecurity), nil
}

// Write hands an authenticated write to the firmware. Errors are ErrVariable or the
// kernel's, for whatever the firmware has against it; what the list is after one is
// for the next start to tell.
func (v Variables) Write(variable string, write []byte) error {
	path, err := v.path(variable)
	if err != nil {
		return err
	}
	if err := unguard(path); err != nil {
		return fmt.Errorf("writing %s: %w", variable, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", variable, err)
	}
	_, err = f.Write(append(binary.LittleEndian.AppendUint32(nil, attributes), write...))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", variable, err)
	}
	return nil
}

// immutable is FS_IMMUTABLE_FL (include/uapi/linux/fs.h).
const immutable = 0x10

// unguard lets a file be written which the kernel guards from being removed by
// mistake (Documentation/filesystems/efivarfs.rst); one that is not there is not
// guarded, and neither is one of a file system without such flags.
func unguard(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only asked
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || err == nil && flags&immutable == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading its flags: %w", err)
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^immutable)
}

// The layout of EFI_VARIABLE_AUTHENTICATION_2 (section 8.2.2): a time, and a
// WIN_CERTIFICATE_UEFI_GUID (section 32.2.4), whose length counts itself, with
// EFI_CERT_TYPE_PKCS7_GUID.
const (
	timeBytes           = 16
	certificateBytes    = 4 + 2 + 2 + 16
	certificateRevision = 0x0200
	certificateGUID     = 0x0ef1
)

var pkcs7GUID = [16]byte{0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7}

// Contents is what an authenticated write has a list hold. Whether the signature is
// good is the firmware's to say. The error is attest.ErrMalformed.
func Contents(write []byte) ([]byte, error) {
	malformed := func(format string, args ...any) error {
		return fmt.Errorf("%w: change of a signature list: %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
	}
	if len(write) > release.MaxWriteBytes {
		return nil, malformed("%d bytes, at most %d", len(write), release.MaxWriteBytes)
	}
	if len(write) < timeBytes+certificateBytes {
		return nil, malformed("%d bytes are cut off", len(write))
	}
	little, certificate := binary.LittleEndian, write[timeBytes:]
	length := little.Uint32(certificate)
	switch {
	case little.Uint16(certificate[4:]) != certificateRevision || little.Uint16(certificate[6:]) != certificateGUID:
		return nil, malformed("its certificate is of no known kind")
	case !bytes.Equal(certificate[8:certificateBytes], pkcs7GUID[:]):
		return nil, malformed("its certificate is no PKCS #7")
	case length <= certificateBytes || uint64(length) > uint64(len(certificate)):
		return nil, malformed("a certificate of %d bytes in %d", length, len(certificate))
	}
	return certificate[length:], nil
}

// Event is what firmware extends register 7 by for a list: UEFI_VARIABLE_DATA (TCG
// PC Client Platform Firmware Profile, section 10.2.6), hashed.
func Event(variable string, contents []byte) attest.Digest {
	name := utf16.Encode([]rune(variable))
	b := binary.LittleEndian.AppendUint64(imageSecurityGUID[:16:16], uint64(len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(contents)))
	for _, unit := range name {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return attest.Sum(append(b, contents...))
}
