package registers

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"fmt"
)

// Keys are the contents of Secure Boot's variables as a machine has them
// enrolled: lists of EFI_SIGNATURE_LIST (UEFI specification, section 32.4.1),
// which is what .esl files hold. DBX may be empty.
type Keys struct {
	PK, KEK, DB, DBX []byte
}

// Check refuses keys with which register 7 is not known. The error matches
// ErrUnknown.
func (k *Keys) Check() error {
	_, err := onlyCertificate(k.DB)
	return err
}

// x509List is the type of a list of certificates (EFI_CERT_X509_GUID).
var x509List = []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}

// keysRegister is register 7 with Secure Boot on: its five variables, the
// separator, and the entry of db that vouched for the image.
func keysRegister(alg crypto.Hash, k Keys) (string, error) {
	authority, err := onlyCertificate(k.DB)
	if err != nil {
		return "", err
	}
	r := newRegister(alg)
	r.measure(variable(globalVariable, "SecureBoot", []byte{1}))
	r.measure(variable(globalVariable, "PK", k.PK))
	r.measure(variable(globalVariable, "KEK", k.KEK))
	r.measure(variable(imageSecurity, "db", k.DB))
	r.measure(variable(imageSecurity, "dbx", k.DBX))
	r.measure(separator)
	r.measure(variable(imageSecurity, "db", authority))
	return r.String(), nil
}

// onlyCertificate returns the one EFI_SIGNATURE_DATA of a db that trusts one
// certificate. With several, which of them vouches depends on the firmware.
func onlyCertificate(db []byte) ([]byte, error) {
	const head = 16 + 3*4
	if len(db) < head {
		return nil, fmt.Errorf("%w: db has %d bytes and no signature list", ErrUnknown, len(db))
	}
	list := binary.LittleEndian.Uint32(db[16:])
	header := binary.LittleEndian.Uint32(db[20:])
	signature := binary.LittleEndian.Uint32(db[24:])
	if !bytes.Equal(db[:16], x509List) || header != 0 || uint64(list) != uint64(len(db)) || uint64(signature) != uint64(len(db)-head) {
		return nil, fmt.Errorf("%w: db does not trust exactly one certificate", ErrUnknown)
	}
	return db[head:], nil
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
