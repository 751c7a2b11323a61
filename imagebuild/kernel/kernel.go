// Package kernel takes Debian's signed cloud kernel and its modules out of the
// distribution's package.
//
// Invariants: the package is never installed and nothing in it is run; its
// bytes are checked against the digest in apt's signed lists before they are
// read; and the modules come in an order in which each finds what it needs
// already loaded.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/toolshed-cloud/shed/imagebuild/debian"
)

// DefaultPackage is the kernel of the image: 6.12 has the guest drivers for
// SEV-SNP and TDX that Debian 12's own 6.1 lacks.
const DefaultPackage = "linux-image-6.12-cloud-amd64"

// ErrPackage says that a package is not a kernel this package understands.
var ErrPackage = errors.New("unusable kernel package")

// maxUnpacked caps what is kept of a package.
const maxUnpacked = 256 << 20

// Kernel is what a package holds, in memory.
type Kernel struct {
	// Image is the bootable kernel, an EFI program, as signed.
	Image []byte
	// Release is the kernel's own name of itself, such as
	// "6.12.117+deb12-cloud-amd64".
	Release string

	builtin map[string]bool
	packed  map[string]packedModule
}

type packedModule struct {
	data       []byte
	compressed bool
}

// Open reads a kernel package from a file. Errors match ErrPackage.
func Open(ctx context.Context, file string) (*Kernel, error) {
	k := &Kernel{builtin: map[string]bool{}, packed: map[string]packedModule{}}
	return k.complete(debian.Files(ctx, file, maxUnpacked, wanted, k.keep))
}

// complete refuses what is left of a package that is no kernel's.
func (k *Kernel) complete(err error) (*Kernel, error) {
	switch {
	case errors.Is(err, debian.ErrArchive):
		return nil, fmt.Errorf("%w: %w", ErrPackage, err)
	case err != nil:
		return nil, err
	case k.Image == nil || len(k.builtin) == 0 || len(k.packed) == 0:
		return nil, fmt.Errorf("%w: it lacks a kernel, its modules or their list", ErrPackage)
	}
	return k, nil
}

func wanted(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "vmlinuz-") || base == "modules.builtin" ||
		strings.HasSuffix(base, ".ko") || strings.HasSuffix(base, ".ko.xz")
}

func (k *Kernel) keep(name string, data []byte) error {
	switch base := path.Base(name); {
	case strings.HasPrefix(base, "vmlinuz-"):
		k.Image, k.Release = data, strings.TrimPrefix(base, "vmlinuz-")
	case base == "modules.builtin":
		for line := range strings.Lines(string(data)) {
			k.builtin[moduleName(strings.TrimSpace(line))] = true
		}
	default:
		k.packed[moduleName(base)] = packedModule{data: data, compressed: strings.HasSuffix(base, ".xz")}
	}
	return nil
}

// moduleName is the kernel's name of a module file: dashes are underscores.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}
