// Package lock reads and writes the file that says of which packages and by
// which Go an image is made.
//
// Invariants: a lock has one spelling, so that it has one digest; every package
// is named with its version and the SHA-256 of its file, and every file that an
// image takes from it with its own; what Parse accepts can be fetched, by names
// that are safe on a command line and in a path.
package lock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// Schema is the one version of lock files that is read.
const Schema = 1

// MaxBytes caps what is parsed.
const MaxBytes = 256 << 10

// ErrLock says that a lock file cannot be used.
var ErrLock = errors.New("unusable lock file")

// Lock is what images are made of.
type Lock struct {
	Schema int `json:"schema"`
	// Go is the version of the toolchain that builds the image's programs, as
	// "go version" names it.
	Go string `json:"go"`
	// Source is the digest of the source that they were built from
	// (imagebuild/source). Only a release's lock has one.
	Source attest.Digest `json:"source,omitzero"`
	// Architectures are sorted by name.
	Architectures []Architecture `json:"architectures"`
}

// Architecture is what images for one are made of.
type Architecture struct {
	Name string `json:"name"`
	// Packages are sorted by name.
	Packages []Package `json:"packages"`
}

// Use is what an image takes from a package.
type Use string

// The uses of a package.
const (
	// Files are unpacked and taken one by one.
	Files Use = "files"
	// Kernel is the package with the kernel and its modules.
	Kernel Use = "kernel"
	// Firmware is of machines whose release brings their firmware.
	Firmware Use = "firmware"
)

// Package is one of Debian's.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Architecture is the package's own, which is "all" for some.
	Architecture string `json:"architecture"`
	// Suite is where it is from, whose security updates count too.
	Suite string `json:"suite"`
	Use   Use    `json:"use"`
	// SHA256 and Bytes are of the package file.
	SHA256 attest.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
	// Files are those that an image takes, sorted by path.
	Files []File `json:"files"`
}

// File is one in a package, or where the image has it.
type File struct {
	Path   string        `json:"path"`
	SHA256 attest.Digest `json:"sha256"`
}

// MismatchError says that something is not what the lock says.
type MismatchError struct{ What, Locked, Found string }

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s does not match the lock: it is %s, and the lock says %s", e.What, e.Found, e.Locked)
}

// Check refuses a file whose digest is not the locked one, as *MismatchError.
func Check(what string, locked, found attest.Digest) error {
	if locked == found {
		return nil
	}
	return &MismatchError{What: what, Locked: "sha256 " + locked.String(), Found: "sha256 " + found.String()}
}

// For is the part for an architecture. The error matches ErrLock.
func (l *Lock) For(architecture string) (*Architecture, error) {
	for i, a := range l.Architectures {
		if a.Name == architecture {
			return &l.Architectures[i], nil
		}
	}
	return nil, fmt.Errorf("%w: it has nothing for %s", ErrLock, architecture)
}

// Of is the package with a use, of which there is one; nil where there is none.
func (a *Architecture) Of(use Use) *Package {
	for i, p := range a.Packages {
		if p.Use == use {
			return &a.Packages[i]
		}
	}
	return nil
}

// Encode returns the lock's one spelling. Errors match ErrLock.
func (l *Lock) Encode() ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	b, err := l.marshal()
	if err == nil && len(b) > MaxBytes {
		err = fmt.Errorf("%w: it has %d bytes, at most %d", ErrLock, len(b), MaxBytes)
	}
	return b, err
}

func (l *Lock) marshal() ([]byte, error) {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the lock: %w", err)
	}
	return append(b, '\n'), nil
}

// Parse reads what Encode wrote and nothing else. Errors match ErrLock.
func Parse(b []byte) (*Lock, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d", ErrLock, len(b), MaxBytes)
	}
	var l Lock
	if err := strictjson.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLock, err)
	}
	if err := l.validate(); err != nil {
		return nil, err
	}
	again, err := l.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: it is not in its canonical form: shed image lock writes it", ErrLock)
	}
	return &l, nil
}
