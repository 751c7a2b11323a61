// Package firmware takes Debian's build of OVMF out of its package and says
// what a machine that starts with it shows in registers 0, 1 and 7.
//
// Invariants: register values are those of a start that was seen, replayed
// from what the firmware itself asked a TPM to extend; a start whose end was
// not seen has none; nothing of the release runs for it.
package firmware

import (
	"context"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
)

// Suite and Package are where the firmware comes from: Debian 13's measures
// the ACPI tables that QEMU hands over, Debian 12's does not.
const (
	Suite   = "trixie"
	Package = "ovmf"
)

// ErrPackage says that a package holds no firmware this package understands.
var ErrPackage = errors.New("unusable firmware package")

// The files of the package: the firmware without Secure Boot and with it, and
// the variables of either as a machine begins with them.
const (
	codeFile      = "usr/share/OVMF/OVMF_CODE_4M.fd"
	secureFile    = "usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	variablesFile = "usr/share/OVMF/OVMF_VARS_4M.fd"
	// maxUnpacked caps the two together; they have 4 MiB.
	maxUnpacked = 16 << 20
)

// Firmware is what the package holds for a kind of board, in memory.
type Firmware struct {
	Code, Variables []byte
	Model           board.Model
}

// Fetch returns the package, downloading it into the directory cache unless it
// is there already. Errors match debian.ErrLists or debian.ErrDownload.
func Fetch(ctx context.Context, cache string) (*debian.Package, error) {
	return debian.FetchFrom(ctx, Suite, Package, cache)
}

// Open reads the firmware for a board from a package file. Errors match
// ErrPackage.
func Open(ctx context.Context, file string, model board.Model) (*Firmware, error) {
	f := Firmware{Model: model}
	code := codeFile
	if model.SecureBoot {
		code = secureFile
	}
	into := map[string]*[]byte{code: &f.Code, variablesFile: &f.Variables}
	err := debian.Files(ctx, file, maxUnpacked,
		func(name string) bool { return into[name] != nil },
		func(name string, data []byte) error { *into[name] = data; return nil })
	switch {
	case errors.Is(err, debian.ErrArchive):
		return nil, fmt.Errorf("%w: %w", ErrPackage, err)
	case err != nil:
		return nil, err
	case len(f.Code) == 0 || len(f.Variables) == 0:
		return nil, fmt.Errorf("%w: it lacks %s or %s", ErrPackage, code, variablesFile)
	}
	return &f, nil
}
