// Package source says what the source of an image's programs is.
//
// Invariants: the digest is of names and contents alone, so that a clone, an
// unpacked archive and a working copy have the same; every file that the image's
// programs and its builder are compiled from or embed is in it.
package source

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
)

// Module is the module whose source is meant.
const Module = "github.com/toolshed-cloud/shed"

// ErrSource says that a directory does not hold the source.
var ErrSource = errors.New("not the source of the image's programs")

// parts are what the programs and the builder are made from. The image's lock is
// among them, so a lock that names a source stands elsewhere.
var parts = []string{"go.mod", "go.sum", "agent", "attest", "cmd", "imagebuild", "toolshed"}

// maxFiles is far above what there is.
const maxFiles = 100_000

// Digest is the SHA-256 of what sha256sum prints of the files, sorted by their
// names: of all but tests, what is in testdata, and what begins with a dot or
// an underscore, as Go has it. docs/decisions/0075 has it as one line of shell.
// Errors match ErrSource or are the files'.
func Digest(dir string) (attest.Digest, error) {
	names, err := Files(dir)
	if err != nil {
		return attest.Digest{}, err
	}
	h := sha256.New()
	for _, name := range names {
		digest, _, err := files.Digest(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return attest.Digest{}, fmt.Errorf("reading the source: %w", err)
		}
		fmt.Fprintf(h, "%s  %s\n", digest, name)
	}
	return attest.Digest(h.Sum(nil)), nil
}

// Is says whether a directory is the root of the source.
func Is(dir string) bool {
	f, err := os.Open(filepath.Join(dir, "go.mod"))
	if err != nil {
		return false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == "module "+Module {
			return true
		}
	}
	return false
}

// Files are the names of what is digested, sorted. Errors are as Digest's.
func Files(dir string) (names []string, err error) {
	if !Is(dir) {
		return nil, fmt.Errorf("%w: %s has no go.mod of %s", ErrSource, dir, Module)
	}
	for _, part := range parts {
		err := filepath.WalkDir(filepath.Join(dir, part), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return fmt.Errorf("reading the source: %w", err)
			}
			skip, err := left(path, d)
			if err != nil || skip || d.IsDir() {
				if err == nil && skip && d.IsDir() {
					return filepath.SkipDir
				}
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil {
				return fmt.Errorf("reading the source: %w", err)
			}
			if names = append(names, filepath.ToSlash(name)); len(names) > maxFiles {
				return fmt.Errorf("%w: it has more than %d files", ErrSource, maxFiles)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(names)
	return names, nil
}

// left says whether a file is left out, and refuses what is neither a file nor
// a directory: what it stands for is elsewhere.
func left(path string, d fs.DirEntry) (bool, error) {
	name := d.Name()
	switch {
	case strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_"), d.IsDir() && name == "testdata":
		return true, nil
	case !d.IsDir() && !d.Type().IsRegular():
		return false, fmt.Errorf("%w: %s is no regular file", ErrSource, path)
	case strings.HasSuffix(name, "_test.go"):
		return true, nil
	case strings.ContainsAny(name, "\n\\"):
		return false, fmt.Errorf("%w: %q is no name of ours", ErrSource, name)
	}
	return false, nil
}
