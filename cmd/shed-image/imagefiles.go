package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// errOther says that a file is not the one that a manifest states.
var errOther = fmt.Errorf("%w: a file is not what the manifest states", attest.ErrRelease)

// checkFile wants a file to be what a manifest states.
func checkFile(f *os.File, stated release.File) error {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(f, 0, stated.Bytes+1))
	if err != nil {
		return fmt.Errorf("reading %s: %w", filepath.Base(f.Name()), err)
	}
	if sum := attest.Digest(h.Sum(nil)); n != stated.Bytes || sum != stated.SHA256 {
		return fmt.Errorf("%w: %s has sha256 %s, not %s", errOther, stated.Name, sum, stated.SHA256)
	}
	return nil
}

// readFull reads as much as there is into b.
func readFull(r io.Reader, b []byte) (int, error) {
	n, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

// copySparse leaves holes where there are zeros, as most of a disk is.
func copySparse(to *os.File, from io.Reader, progress func(done int64)) error {
	buffer, zeros := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := readFull(from, buffer)
		if err != nil {
			return fmt.Errorf("copying the disk: %w", err)
		}
		if n == 0 {
			return to.Truncate(at)
		}
		if !bytes.Equal(buffer[:n], zeros[:n]) {
			if _, err := to.WriteAt(buffer[:n], at); err != nil {
				return fmt.Errorf("copying the disk: %w", err)
			}
		}
		at += int64(n)
		progress(at)
	}
}
