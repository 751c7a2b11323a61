// Package manifest reads what is signed about a plugin's program.
//
// Invariants: nothing of a manifest is used before its signature was checked;
// one that a reader does not understand whole is refused; and a program is
// what its manifest says only if every byte of it is.
package manifest

import (
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// Version is the only version of the format.
const Version = 1

// The files beside a program: its manifest, and the signature over that as a
// Sigstore bundle.
const (
	FileSuffix   = ".json"
	BundleSuffix = ".json.sigstore.json"
)

// MaxBytes caps a manifest, MaxProgramBytes a program.
const (
	MaxBytes        = 16 << 10
	MaxProgramBytes = 512 << 20
)

// ErrManifest says that a manifest does not speak for the program.
var ErrManifest = errors.New("plugin manifest")

// Manifest is what is signed.
type Manifest struct {
	Version int `json:"version"`
	// Name is the provider's; its program is called shed-provider-NAME.
	Name string `json:"name"`
	// Release is the program's own version.
	Release string `json:"release"`
	// ContractVersion is the version of the provider contract that it speaks.
	ContractVersion int    `json:"contract_version"`
	OS              string `json:"os"`
	Arch            string `json:"arch"`
	// SHA256 and Bytes are the program's.
	SHA256 attest.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
}

var names = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// Of describes the program in a file. Errors are those of reading it and
// ErrManifest.
func Of(path, name, version string, contract int) (Manifest, error) {
	m := Manifest{Version: Version, Name: name, Release: version, ContractVersion: contract, OS: runtime.GOOS, Arch: runtime.GOARCH}
	var err error
	if m.SHA256, m.Bytes, err = digest(path); err != nil {
		return m, err
	}
	return m, m.check()
}

// Encode writes it as Parse reads it. Errors are ErrManifest.
func (m Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding a manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// Parse reads one whose signature was checked. The error is ErrManifest, and
// names the field.
func Parse(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > MaxBytes {
		return m, fmt.Errorf("%w: it has %d bytes, at most %d", ErrManifest, len(b), MaxBytes)
	}
	if err := strictjson.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, m.check()
}

func (m Manifest) check() error {
	switch {
	case m.Version != Version:
		return fmt.Errorf("%w: version is %d, want %d", ErrManifest, m.Version, Version)
	case !names.MatchString(m.Name):
		return fmt.Errorf("%w: name %.64q is not lower-case letters, digits and dashes", ErrManifest, m.Name)
	case m.Release == "" || len(m.Release) > 64:
		return fmt.Errorf("%w: release has %d characters, want 1 to 64", ErrManifest, len(m.Release))
	case m.ContractVersion < 1:
		return fmt.Errorf("%w: contract_version is %d", ErrManifest, m.ContractVersion)
	case m.OS == "" || m.Arch == "":
		return fmt.Errorf("%w: os or arch is empty", ErrManifest)
	case m.Bytes < 1 || m.Bytes > MaxProgramBytes:
		return fmt.Errorf("%w: bytes is %d, want 1 to %d", ErrManifest, m.Bytes, MaxProgramBytes)
	}
	return nil
}

// Verify checks that one of keys signed the manifest beside the program, and
// that the program is the one it speaks of. Errors are ErrManifest,
// attest.ErrSignature and those of reading the files.
func Verify(program string, keys []crypto.PublicKey) (Manifest, error) {
	text, err := readCapped(program+FileSuffix, MaxBytes)
	if err != nil {
		return Manifest{}, err
	}
	bundle, err := readCapped(program+BundleSuffix, release.MaxBundleBytes)
	if err != nil {
		return Manifest{}, err
	}
	err = fmt.Errorf("%w: no key is trusted with plugins", ErrManifest)
	for _, key := range keys {
		if err = release.VerifyMessage(text, bundle, key); err == nil {
			break
		}
	}
	if err != nil {
		return Manifest{}, err
	}
	m, err := Parse(text)
	if err != nil {
		return m, err
	}
	return m, m.Matches(program)
}

// Matches reports whether a file is the program, whatever it is called. Errors
// are ErrManifest and those of reading it.
func (m Manifest) Matches(program string) error {
	if m.OS != runtime.GOOS || m.Arch != runtime.GOARCH {
		return fmt.Errorf("%w: it is for %s/%s, and this is %s/%s", ErrManifest, m.OS, m.Arch, runtime.GOOS, runtime.GOARCH)
	}
	sum, bytes, err := digest(program)
	if err != nil {
		return err
	}
	if sum != m.SHA256 || bytes != m.Bytes {
		return fmt.Errorf("%w: %s has sha256 %s, and the manifest says %s", ErrManifest, program, sum, m.SHA256)
	}
	return nil
}

func digest(path string) (attest.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return attest.Digest{}, 0, fmt.Errorf("reading the program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, MaxProgramBytes+1))
	if err != nil {
		return attest.Digest{}, 0, fmt.Errorf("reading the program: %w", err)
	}
	if n > MaxProgramBytes {
		return attest.Digest{}, 0, fmt.Errorf("%w: the program has more than %d bytes", ErrManifest, MaxProgramBytes)
	}
	return attest.Digest(h.Sum(nil)), n, nil
}

func readCapped(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the plugin's manifest: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading the plugin's manifest: %w", err)
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrManifest, name, most)
	}
	return b, nil
}
