// Package files reads and writes the files of an image. Invariant: a file that
// this package wrote is whole or absent, whenever the machine stops.
package files

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest"
)

// Digest returns the SHA-256 and the length of a file.
func Digest(name string) (attest.Digest, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return attest.Digest{}, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return attest.Digest{}, 0, fmt.Errorf("reading %s: %w", name, err)
	}
	return attest.Digest(h.Sum(nil)), n, nil
}

// Write puts a file in place under its name once fill has written it and it
// has reached the disk.
func Write(name string, mode os.FileMode, fill func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing %s: %w", name, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	err = errors.Join(fill(f), f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// WriteBytes is Write of bytes at hand.
func WriteBytes(name string, mode os.FileMode, b []byte) error {
	return Write(name, mode, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}
