package secureboot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// Revoke adds the hash of an EFI program to dbx.esl of a directory of keys, so
// that machines whose firmware has that list refuse it, whoever signed it. One
// that is in the list already changes nothing. Errors match ErrKeys or
// uki.ErrFormat, or are the files'.
func Revoke(dir string, image []byte) error {
	h := sha256.New()
	if err := uki.Authenticode(image, h); err != nil {
		return fmt.Errorf("hashing the image: %w", err)
	}
	name := filepath.Join(dir, revoked+".esl")
	known, err := readCapped(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading what is revoked: %w", err)
	}
	digests, err := readDigests(known)
	if err != nil {
		return err
	}
	digest := [32]byte(h.Sum(nil))
	if slices.Contains(digests, digest) {
		return nil
	}
	all := digestList(append(digests, digest))
	if len(all) > maxVariable {
		return fmt.Errorf("%w: dbx would have %d bytes, at most %d", ErrKeys, len(all), maxVariable)
	}
	return statefile.Write(name, 0o644, all)
}

// readDigests reads what digestList wrote; nothing is an empty list.
func readDigests(lists []byte) (digests [][32]byte, err error) {
	const entry = len(owner) + 32
	if len(lists) == 0 {
		return nil, nil
	}
	if len(lists) < listHead || (len(lists)-listHead)%entry != 0 {
		return nil, fmt.Errorf("%w: dbx is not a list of digests alone", ErrKeys)
	}
	for at := listHead; at < len(lists); at += entry {
		digests = append(digests, [32]byte(lists[at+len(owner):at+entry]))
	}
	if !slices.Equal(digestList(digests), lists) {
		return nil, fmt.Errorf("%w: dbx is not a list of digests alone", ErrKeys)
	}
	return digests, nil
}
