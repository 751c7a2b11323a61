package secureboot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// signature is one entry of a signature list.
type signature struct {
	kind guid
	// data is EFI_SIGNATURE_DATA: whose it is, and what.
	data []byte
}

func (s signature) content() []byte { return s.data[len(owner):] }

// digest is what an entry is told by: a certificate's SHA-256, or the hash that
// it is.
func (s signature) digest() attest.Digest {
	if s.kind == typeSHA256 {
		return attest.Digest(s.content())
	}
	return attest.Sum(s.content())
}

// signatures are the entries of lists of certificates and of hashes. The error
// matches ErrKeys.
func signatures(lists []byte) (all []signature, err error) {
	if len(lists) > maxVariable {
		return nil, fmt.Errorf("%w: lists of %d bytes, at most %d", ErrKeys, len(lists), maxVariable)
	}
	for len(lists) > 0 {
		if len(lists) < listHead {
			return nil, fmt.Errorf("%w: a list is cut off", ErrKeys)
		}
		kind := guid(lists[:16])
		length, size := binary.LittleEndian.Uint32(lists[16:]), binary.LittleEndian.Uint32(lists[24:])
		head := binary.LittleEndian.Uint32(lists[20:])
		switch {
		case kind != typeX509 && kind != typeSHA256:
			return nil, fmt.Errorf("%w: a list is neither of certificates nor of SHA-256 hashes", ErrKeys)
		case head != 0 || uint64(length) > uint64(len(lists)) || length <= listHead:
			return nil, fmt.Errorf("%w: a list has %d bytes of %d", ErrKeys, length, len(lists))
		case int(size) <= len(owner) || (length-listHead)%size != 0 || kind == typeSHA256 && int(size) != len(owner)+32:
			return nil, fmt.Errorf("%w: a list has entries of %d bytes in %d", ErrKeys, size, length-listHead)
		}
		for entry := range slices.Chunk(lists[listHead:length], int(size)) {
			all = append(all, signature{kind: kind, data: entry})
		}
		lists = lists[length:]
	}
	return all, nil
}

// Trust adds a certificate, PEM, to db.esl of a directory of keys: firmware with
// that list starts what its key has signed too. One that is in the list already
// changes nothing. Errors match ErrKeys, or are the files'.
func Trust(dir, certificate string) error {
	return changeDB(dir, certificate, func(db []byte, all []signature, der []byte) []byte {
		if slices.ContainsFunc(all, func(s signature) bool { return bytes.Equal(s.content(), der) }) {
			return db
		}
		return append(db, certificateList(der)...)
	})
}

// Distrust takes a certificate, PEM, out of db.esl; one that is not there changes
// nothing. Errors are as Trust's.
func Distrust(dir, certificate string) error {
	return changeDB(dir, certificate, func(_ []byte, all []signature, der []byte) (left []byte) {
		for _, s := range all {
			if !bytes.Equal(s.content(), der) {
				left = append(left, list(s.kind, len(s.data), s.data)...)
			}
		}
		return left
	})
}

// CheckCertificate says what Trust and Distrust would say of a file, before anything
// is changed. Errors are as theirs.
func CheckCertificate(name string) error {
	if _, err := readCertificate(name); err != nil {
		return fmt.Errorf("reading a certificate for db: %w", err)
	}
	return nil
}

// changeDB rewrites db.esl, where what it becomes has an entry that vouches for
// images.
func changeDB(dir, certificate string, change func(db []byte, all []signature, der []byte) []byte) error {
	keys, err := Read(dir)
	if err != nil {
		return err
	}
	der, err := readCertificate(certificate)
	if err != nil {
		return fmt.Errorf("reading a certificate for db: %w", err)
	}
	all, err := signatures(keys.DB)
	if err != nil {
		return err
	}
	changed := *keys
	changed.DB = change(slices.Clone(keys.DB), all, der)
	if changed.Vouching, err = readCertificate(filepath.Join(dir, vouchingFile)); err != nil {
		return fmt.Errorf("reading which certificate of db.esl signs: %w", err)
	}
	if err := changed.Check(); err != nil {
		return err
	}
	return statefile.Write(filepath.Join(dir, imageKey+".esl"), 0o644, changed.DB)
}
