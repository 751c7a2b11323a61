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
	r.measure(variable(secureboot.ImageSecurity, "db", authority))
	return r, nil
}

// beforeBoot is register 7 as the firmware closes it, before it has looked for
// anything to boot.
func beforeBoot(alg crypto.Hash, k *secureboot.Keys) *register {
	r := newRegister(alg)
	r.measure(variable(secureboot.GlobalVariable, "SecureBoot", []byte{1}))
	r.measure(variable(secureboot.GlobalVariable, "PK", k.PK))
	r.measure(variable(secureboot.GlobalVariable, "KEK", k.KEK))
	r.measure(variable(secureboot.ImageSecurity, "db", k.DB))
	r.measure(variable(secureboot.ImageSecurity, "dbx", k.DBX))
	r.measure(separator)
	return r
}

// BeforeBoot is register 7 in both banks, in lowercase hex, as firmware with the
// keys closes it: what the firmware itself can be held against.
func BeforeBoot(k *secureboot.Keys) (sha256, sha384 string) {
	return beforeBoot(crypto.SHA256, k).String(), beforeBoot(crypto.SHA384, k).String()
}

// noKeysRegister is register 7 of firmware that holds no keys: Secure Boot's
// five variables, absent or empty, then the separator.
func noKeysRegister(alg crypto.Hash) string {
	r := newRegister(alg)
	r.measure(variable(secureboot.GlobalVariable, "SecureBoot", []byte{0}))
	r.measure(variable(secureboot.GlobalVariable, "PK", nil))
	r.measure(variable(secureboot.GlobalVariable, "KEK", nil))
	r.measure(variable(secureboot.ImageSecurity, "db", nil))
	r.measure(variable(secureboot.ImageSecurity, "dbx", nil))
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
