package secureboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
)

// ErrStore says that bytes are no store of variables that keys can be enrolled
// in.
var ErrStore = errors.New("unusable store of variables")

// The layout of EDK II's store (MdePkg's PiFirmwareVolume.h, MdeModulePkg's
// VariableFormat.h): a firmware volume, whose length stands at 32 and the
// length of whose header at 48; behind its header the store's own, with its
// size at 16, its format at 20 and its state at 21; then variables.
const (
	volumeLength     = 32
	volumeSignature  = 40
	volumeHeaderSize = 48
	volumeHead       = 56
	storeSize        = 16
	storeFormat      = 20
	storeHead        = 28
	variableHead     = 60
	// formatted and healthy are the only states that firmware begins with.
	formatted, healthy = 0x5a, 0xfe
	variableID         = 0x55aa
	variableAdded      = 0x3f
	erased             = 0xff
)

// GlobalVariable and ImageSecurity are the namespaces of Secure Boot's variables, as
// they lie in memory: of db and dbx the second, of the others the first (UEFI
// specification 2.10, sections 3.3 and 32.6.1).
var (
	GlobalVariable = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	ImageSecurity  = [16]byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
)

// The namespaces of volumes, stores and a variable of EDK II's own
// (SystemNvDataGuid.h, AuthenticatedVariableFormat.h and ImageAuthentication.h).
var (
	volumeVariables    = guid{0x8d, 0x2b, 0xf1, 0xff, 0x96, 0x76, 0x8b, 0x4c, 0xa9, 0x85, 0x27, 0x47, 0x07, 0x5b, 0x4f, 0x50}
	storeAuthenticated = guid{0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92}
	secureBootEnable   = guid{0xc7, 0x0b, 0xa3, 0xf0, 0x08, 0xaf, 0x56, 0x45, 0x99, 0xc4, 0x00, 0x10, 0x09, 0xc9, 0x3a, 0x44}
)

// Attributes of variables (UEFI specification 2.10, section 8.2.1).
const (
	nonVolatile   = 0x01
	bootService   = 0x02
	runtime       = 0x04
	authenticated = 0x20
)

// variable is one to be written.
type variable struct {
	namespace  guid
	name       string
	attributes uint32
	data       []byte
}

// Enroll writes the keys into a copy of an empty store, such as Debian's
// OVMF_VARS_4M.fd, so that a machine which begins with it has Secure Boot on.
// Errors match ErrKeys or ErrStore.
func (k *Keys) Enroll(empty []byte) ([]byte, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	begin, end, err := freeSpace(empty)
	if err != nil {
		return nil, err
	}
	const signed = nonVolatile | bootService | runtime | authenticated
	var b []byte
	for _, v := range []variable{
		{GlobalVariable, "PK", signed, k.PK},
		{GlobalVariable, "KEK", signed, k.KEK},
		{ImageSecurity, "db", signed, k.DB},
		{ImageSecurity, "dbx", signed, k.DBX},
		{secureBootEnable, "SecureBootEnable", nonVolatile | bootService, []byte{1}},
	} {
		if len(v.data) > 0 {
			b = v.appendTo(b)
		}
	}
	if len(b) > end-begin {
		return nil, fmt.Errorf("%w: it has room for %d bytes, and the keys have %d", ErrStore, end-begin, len(b))
	}
	store := slices.Clone(empty)
	copy(store[begin:], b)
	return store, nil
}

// appendTo writes AUTHENTICATED_VARIABLE_HEADER, name and data. The time, which
// an update by its owner has to be later than, is the earliest that there is.
func (v variable) appendTo(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, erased)
	}
	var name []byte
	for _, unit := range utf16.Encode([]rune(v.name + "\x00")) {
		name = binary.LittleEndian.AppendUint16(name, unit)
	}
	b = binary.LittleEndian.AppendUint16(b, variableID)
	b = append(b, variableAdded, 0)
	b = binary.LittleEndian.AppendUint32(b, v.attributes)
	b = append(b, make([]byte, 8)...) // MonotonicCount
	b = append(b, v.time()...)
	b = binary.LittleEndian.AppendUint32(b, 0) // PubKeyIndex
	b = binary.LittleEndian.AppendUint32(b, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(v.data)))
	b = append(b, v.namespace[:]...)
	return append(append(b, name...), v.data...)
}

// time is EFI_TIME: 2000-01-01 for a signed variable, nothing for another.
func (v variable) time() []byte {
	t := make([]byte, 16)
	if v.attributes&authenticated != 0 {
		binary.LittleEndian.PutUint16(t, uint16(always.Year()))
		t[2], t[3] = 1, 1
	}
	return t
}

// freeSpace finds where variables begin and must end in a store without any.
func freeSpace(b []byte) (begin, end int, err error) {
	if len(b) < volumeHead || !bytes.Equal(b[16:32], volumeVariables[:]) || string(b[volumeSignature:volumeSignature+4]) != "_FVH" {
		return 0, 0, fmt.Errorf("%w: it begins with no firmware volume of variables", ErrStore)
	}
	length := binary.LittleEndian.Uint64(b[volumeLength:])
	at := int(binary.LittleEndian.Uint16(b[volumeHeaderSize:]))
	if length > uint64(len(b)) || at < volumeHead || at+storeHead > len(b) {
		return 0, 0, fmt.Errorf("%w: its firmware volume is cut off", ErrStore)
	}
	store := b[at:]
	if !bytes.Equal(store[:16], storeAuthenticated[:]) {
		return 0, 0, fmt.Errorf("%w: its variables are not authenticated ones", ErrStore)
	}
	size := binary.LittleEndian.Uint32(store[storeSize:])
	if size < storeHead || uint64(at)+uint64(size) > length {
		return 0, 0, fmt.Errorf("%w: %d bytes of variables are more than the volume has", ErrStore, size)
	}
	if store[storeFormat] != formatted || store[storeFormat+1] != healthy {
		return 0, 0, fmt.Errorf("%w: it is not formatted or not healthy", ErrStore)
	}
	begin, end = at+storeHead, at+int(size)
	if !allErased(b[begin:end]) {
		return 0, 0, fmt.Errorf("%w: it holds variables already", ErrStore)
	}
	return begin, end, nil
}

func allErased(b []byte) bool {
	for _, c := range b {
		if c != erased {
			return false
		}
	}
	return true
}
