package registers

import (
	"crypto"
	"encoding/binary"
)

// The namespaces of the variables that make up Secure Boot, as they lie in
// memory (UEFI specification, sections 3.3 and 32.6.1).
var (
	globalVariable = [16]byte{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	imageSecurity  = [16]byte{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
)

// noKeysRegister is register 7 of firmware that holds no keys: Secure Boot's
// five variables, absent or empty, then the separator.
func noKeysRegister(alg crypto.Hash) string {
	r := newRegister(alg)
	r.measure(variable(globalVariable, "SecureBoot", []byte{0}))
	r.measure(variable(globalVariable, "PK", nil))
	r.measure(variable(globalVariable, "KEK", nil))
	r.measure(variable(imageSecurity, "db", nil))
	r.measure(variable(imageSecurity, "dbx", nil))
	r.measure(separator)
	return r.String()
}

// variable is UEFI_VARIABLE_DATA of the TCG firmware profile.
func variable(namespace [16]byte, name string, data []byte) []byte {
	b := append([]byte{}, namespace[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(name)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = append(b, utf16LE(name)...)
	return append(b, data...)
}
