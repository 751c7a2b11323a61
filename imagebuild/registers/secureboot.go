package registers

import (
	"crypto"
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
)

// keysRegister is register 7 with Secure Boot on: its five variables, the
// separator, and the entry of db that vouched for the image.
func keysRegister(alg crypto.Hash, k *secureboot.Keys) (*register, error) {
	authority, err := k.Authority()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	r := beforeBoot(alg, k)
	r.measure(variable(imageSecurity, "db", authority))
	return r, nil
}

// beforeBoot is register 7 as the firmware closes it, before it has looked for
// anything to boot.
func beforeBoot(alg crypto.Hash, k *secureboot.Keys) *register {
	r := newRegister(alg)
	r.measure(variable(globalVariable, "SecureBoot", []byte{1}))
	r.measure(variable(globalVariable, "PK", k.PK))
	r.measure(variable(globalVariable, "KEK", k.KEK))
	r.measure(variable(imageSecurity, "db", k.DB))
	r.measure(variable(imageSecurity, "dbx", k.DBX))
	r.measure(separator)
	return r
}

// BeforeBoot is register 7 in both banks, in lowercase hex, as firmware with the
// keys closes it: what the firmware itself can be held against.
func BeforeBoot(k *secureboot.Keys) (sha256, sha384 string) {
	return beforeBoot(crypto.SHA256, k).String(), beforeBoot(crypto.SHA384, k).String()
}

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
