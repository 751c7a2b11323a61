package lock

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/toolshed-cloud/shed/attest/board"
)

// The caps on a lock's lists.
const (
	maxPackages = 256
	maxFiles    = 256
	maxPackage  = 1 << 30
)

// Debian's names and versions (policy 5.6), and Go's.
var (
	packageName   = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,127}$`)
	versionText   = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~:-]{0,127}$`)
	suiteName     = regexp.MustCompile(`^[a-z]{1,32}$`)
	goVersion     = regexp.MustCompile(`^go1\.[0-9]{1,4}(\.[0-9]{1,4}|rc[0-9]{1,2}|beta[0-9]{1,2})?$`)
	pathCharacter = regexp.MustCompile(`^[A-Za-z0-9/._+@~-]{1,255}$`)
)

// ValidGo refuses what is no version of Go as "go version" names it. The error
// matches ErrLock.
func ValidGo(version string) error {
	if !goVersion.MatchString(version) {
		return fmt.Errorf("%w: go %.40q is no version such as go1.26.8", ErrLock, version)
	}
	return nil
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrLock, fmt.Errorf(format, args...))
}

func (l *Lock) validate() error {
	if l.Schema != Schema {
		return refused("schema is %d, want %d", l.Schema, Schema)
	}
	if err := ValidGo(l.Go); err != nil {
		return err
	}
	if n := len(l.Architectures); n < 1 || n > 2 {
		return refused("architectures has %d entries, want 1 or 2", n)
	}
	for i, a := range l.Architectures {
		if a.Name != board.AMD64 && a.Name != board.ARM64 {
			return refused("architectures[%d].name %.20q is neither %s nor %s", i, a.Name, board.AMD64, board.ARM64)
		}
		if i > 0 && l.Architectures[i-1].Name >= a.Name {
			return refused("architectures[%d].name %q is out of order or repeated", i, a.Name)
		}
		if err := a.validate(); err != nil {
			return refused("architectures[%d]: %w", i, err)
		}
	}
	return nil
}

func (a *Architecture) validate() error {
	if len(a.Packages) == 0 || len(a.Packages) > maxPackages {
		return fmt.Errorf("packages has %d entries, want 1 to %d", len(a.Packages), maxPackages)
	}
	uses := map[Use]int{}
	for i, p := range a.Packages {
		if i > 0 && a.Packages[i-1].Name >= p.Name {
			return fmt.Errorf("packages[%d].name %q is out of order or repeated", i, p.Name)
		}
		if err := p.validate(a.Name); err != nil {
			return fmt.Errorf("packages[%d].%w", i, err)
		}
		uses[p.Use]++
	}
	if uses[Kernel] != 1 || uses[Firmware] != 1 {
		return fmt.Errorf("packages has %d kernels and %d firmwares, want one of each", uses[Kernel], uses[Firmware])
	}
	return nil
}

func (p *Package) validate(architecture string) error {
	switch {
	case !packageName.MatchString(p.Name):
		return fmt.Errorf("name %.40q is no name of a package", p.Name)
	case !versionText.MatchString(p.Version):
		return fmt.Errorf("version %.40q is no version of Debian's", p.Version)
	case p.Architecture != architecture && p.Architecture != "all":
		return fmt.Errorf("architecture %.20q is neither %s nor all", p.Architecture, architecture)
	case !suiteName.MatchString(p.Suite):
		return fmt.Errorf("suite %.40q is no name of a suite", p.Suite)
	case p.Use != Files && p.Use != Kernel && p.Use != Firmware:
		return fmt.Errorf("use %.20q is not %s, %s or %s", p.Use, Files, Kernel, Firmware)
	case p.SHA256.IsZero():
		return fmt.Errorf("sha256 is unset")
	case p.Bytes <= 0 || p.Bytes > maxPackage:
		return fmt.Errorf("bytes is %d, want 1 to %d", p.Bytes, maxPackage)
	case len(p.Files) == 0 || len(p.Files) > maxFiles:
		return fmt.Errorf("files has %d entries, want 1 to %d", len(p.Files), maxFiles)
	}
	for i, f := range p.Files {
		switch {
		case !isPath(f.Path):
			return fmt.Errorf("files[%d].path %.80q is no path inside of a package", i, f.Path)
		case i > 0 && p.Files[i-1].Path >= f.Path:
			return fmt.Errorf("files[%d].path %q is out of order or repeated", i, f.Path)
		case f.SHA256.IsZero():
			return fmt.Errorf("files[%d].sha256 is unset", i)
		}
	}
	return nil
}

func isPath(p string) bool {
	return pathCharacter.MatchString(p) && path.Clean(p) == p && !path.IsAbs(p) && p != "." && p != ".." && !strings.HasPrefix(p, "../")
}
