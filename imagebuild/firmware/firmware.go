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
	"slices"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
)

// Suite is where the firmware comes from: Debian 13's measures the ACPI tables that QEMU hands over, Debian 12's does not.
const Suite = "trixie"

// Package is the one with the firmware of an architecture.
func Package(architecture string) string {
	if architecture == board.ARM64 {
		return "qemu-efi-aarch64"
	}
	return "ovmf"
}

// ErrPackage says that a package holds no firmware this package understands.
var ErrPackage = errors.New("unusable firmware package")

// The files of the packages: the firmware without Secure Boot and with it, and
// the variables of either as a machine begins with them. On ARM64 only the one
// with Secure Boot knows a TPM, so it is taken without keys too.
const (
	codeFile         = "usr/share/OVMF/OVMF_CODE_4M.fd"
	secureFile       = "usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	variablesFile    = "usr/share/OVMF/OVMF_VARS_4M.fd"
	armFile          = "usr/share/AAVMF/AAVMF_CODE.secboot.fd"
	armVariablesFile = "usr/share/AAVMF/AAVMF_VARS.fd"
	// maxUnpacked caps the two together; they have 4 MiB, and on ARM64 two
	// flashes of 64 MiB.
	maxUnpacked = 128 << 20
)

// Firmware is what the package holds for a kind of board, in memory.
type Firmware struct {
	Code, Variables []byte
	Model           board.Model
}

// Uses says whether a file of a package is one that Open reads for some board.
func Uses(name string) bool {
	return slices.Contains([]string{codeFile, secureFile, variablesFile, armFile, armVariablesFile}, name)
}

// Fetch returns the package, downloading it into the directory cache unless it
// is there already. Errors match debian.ErrLists or debian.ErrDownload.
func Fetch(ctx context.Context, architecture, cache string) (*debian.Package, error) {
	return debian.FetchFrom(ctx, Suite, Package(architecture), cache)
}

// Open reads the firmware for a board from a package file. Errors match
// ErrPackage.
func Open(ctx context.Context, file string, model board.Model) (*Firmware, error) {
	f := Firmware{Model: model}
	code, variables := codeFile, variablesFile
	switch {
	case model.IsARM64():
		code, variables = armFile, armVariablesFile
	case model.SecureBoot:
		code = secureFile
	}
	into := map[string]*[]byte{code: &f.Code, variables: &f.Variables}
	err := debian.Files(ctx, file, maxUnpacked,
		func(name string) bool { return into[name] != nil },
		func(name string, data []byte) error { *into[name] = data; return nil })
	switch {
	case errors.Is(err, debian.ErrArchive):
		return nil, fmt.Errorf("%w: %w", ErrPackage, err)
	case err != nil:
		return nil, err
	case len(f.Code) == 0 || len(f.Variables) == 0:
		return nil, fmt.Errorf("%w: it lacks %s or %s", ErrPackage, code, variables)
	}
	return &f, nil
}
