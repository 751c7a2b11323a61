// Package secureboot makes the keys with which firmware tells our images from
// others, writes them where firmware keeps its variables, and signs images.
//
// Invariants: a private key leaves this package only into a file that was not
// there before and that nobody else can read; certificates, signature lists,
// variable stores and signatures are functions of keys and images alone, with
// no time and no randomness in them; every length in bytes from outside is
// checked before use. Why no library writes them: docs/decisions/0071.
package secureboot

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrKeys says that keys are not what Secure Boot can use, or what we can
// predict its registers for.
var ErrKeys = errors.New("unusable Secure Boot keys")

// Keys are the contents of Secure Boot's variables as a machine has them
// enrolled: lists of EFI_SIGNATURE_LIST (UEFI specification 2.10, section
// 32.4.1), which is what .esl files hold. DBX may be empty.
type Keys struct {
	PK, KEK, DB, DBX []byte
	// Vouching is the certificate, DER, that images are signed by, where DB has
	// more than that one; nil elsewhere.
	Vouching []byte
}

// guid is a GUID as it lies in memory.
type guid [16]byte

// The types of signature lists, EFI_CERT_X509_GUID and EFI_CERT_SHA256_GUID,
// and the owner that ours name.
var (
	typeX509   = guid{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	typeSHA256 = guid{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	owner      = guid{0x5d, 0x1f, 0x3a, 0x9e, 0x0c, 0x6b, 0x4b, 0x4d, 0x8f, 0x2e, 0x71, 0xc3, 0x05, 0xd4, 0xaa, 0x16}
)

const (
	// listHead is EFI_SIGNATURE_LIST without what follows it.
	listHead = 16 + 3*4
	// maxVariable caps one variable: firmware takes no larger ones.
	maxVariable = 64 << 10
)

// certificateList is a list of one certificate, DER.
func certificateList(certificate []byte) []byte {
	return list(typeX509, len(owner)+len(certificate), append(owner[:len(owner):len(owner)], certificate...))
}

// digestList is a list of SHA-256 digests.
func digestList(digests [][32]byte) []byte {
	var entries []byte
	for _, d := range digests {
		entries = append(append(entries, owner[:]...), d[:]...)
	}
	return list(typeSHA256, len(owner)+32, entries)
}

func list(kind guid, size int, entries []byte) []byte {
	b := append([]byte{}, kind[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(listHead+len(entries)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	return append(b, entries...)
}

// Check refuses keys with which a machine would not be in Secure Boot's user
// mode, or with which register 7 is not known. Errors match ErrKeys.
func (k *Keys) Check() error {
	for _, v := range []struct {
		name  string
		lists []byte
	}{{"PK", k.PK}, {"KEK", k.KEK}} {
		if _, err := onlySignature(v.lists); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	if len(k.DBX) > maxVariable {
		return fmt.Errorf("%w: dbx has %d bytes, at most %d", ErrKeys, len(k.DBX), maxVariable)
	}
	_, err := k.Authority()
	return err
}

// Authority is the entry of db that vouches for an image, EFI_SIGNATURE_DATA: its
// only certificate, or the one of several that Vouching is. No other may vouch for
// that in turn, since which one it is by depended on the firmware then. The error
// matches ErrKeys.
func (k *Keys) Authority() ([]byte, error) {
	if k.Vouching == nil {
		entry, err := onlySignature(k.DB)
		if err != nil {
			return nil, fmt.Errorf("db: %w", err)
		}
		return entry, nil
	}
	all, err := signatures(k.DB)
	if err != nil {
		return nil, fmt.Errorf("db: %w", err)
	}
	var found []byte
	for _, s := range all {
		switch {
		case s.kind != typeX509:
			return nil, fmt.Errorf("%w: db has other entries than certificates", ErrKeys)
		case !bytes.Equal(s.content(), k.Vouching):
			if err := apart(s.content(), k.Vouching); err != nil {
				return nil, err
			}
		case found != nil:
			return nil, fmt.Errorf("%w: db has the certificate that images are signed by twice", ErrKeys)
		default:
			found = s.data
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: db has not the certificate that images are signed by", ErrKeys)
	}
	return found, nil
}

// apart refuses a certificate whose key another's is, or was signed by.
func apart(other, vouching []byte) error {
	a, err := x509.ParseCertificate(other)
	if err != nil {
		return fmt.Errorf("%w: db: %w", ErrKeys, err)
	}
	b, err := x509.ParseCertificate(vouching)
	if err != nil {
		return fmt.Errorf("%w: db: %w", ErrKeys, err)
	}
	if a.CheckSignature(b.SignatureAlgorithm, b.RawTBSCertificate, b.Signature) == nil {
		return fmt.Errorf("%w: two certificates of db would vouch for one image", ErrKeys)
	}
	return nil
}

// Certificate is that of the key whose signatures db accepts. Errors match
// ErrKeys.
func (k *Keys) Certificate() (*x509.Certificate, error) {
	entry, err := k.Authority()
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(entry[len(owner):])
	if err != nil {
		return nil, fmt.Errorf("%w: db: %w", ErrKeys, err)
	}
	return c, nil
}

// onlySignature is the one EFI_SIGNATURE_DATA of lists that hold one
// certificate and nothing else.
func onlySignature(lists []byte) ([]byte, error) {
	if len(lists) < listHead || len(lists) > maxVariable {
		return nil, fmt.Errorf("%w: %d bytes are no list of one certificate", ErrKeys, len(lists))
	}
	size := binary.LittleEndian.Uint32(lists[16:])
	header := binary.LittleEndian.Uint32(lists[20:])
	signature := binary.LittleEndian.Uint32(lists[24:])
	if !bytes.Equal(lists[:16], typeX509[:]) || header != 0 || uint64(size) != uint64(len(lists)) ||
		uint64(signature) != uint64(len(lists)-listHead) || int(signature) <= len(owner) {
		return nil, fmt.Errorf("%w: not exactly one certificate", ErrKeys)
	}
	return lists[listHead:], nil
}
