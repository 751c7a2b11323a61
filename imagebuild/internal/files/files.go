// Package files reads the files of an image. Invariant: they are read in
// pieces, however large they are.
package files

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"

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
