// Package kernel takes Debian's signed cloud kernel and its modules out of the
// distribution's package.
//
// Invariants: the package is never installed and nothing in it is run; its
// bytes are checked against the digest in apt's signed lists before they are
// read; and the modules come in an order in which each finds what it needs
// already loaded.
package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
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

// Open reads a kernel package from a file.
func Open(ctx context.Context, file string) (*Kernel, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", path.Base(file), err)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", path.Base(file), err)
	}
	k, readErr := read(tar.NewReader(out))
	if readErr != nil {
		cancel()
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		return nil, fmt.Errorf("%w: unpacking %s: %w: %s", ErrPackage, path.Base(file), err, strings.TrimSpace(complaint.String()))
	}
	return k, readErr
}

func read(archive *tar.Reader) (*Kernel, error) {
	k := &Kernel{builtin: map[string]bool{}, packed: map[string]packedModule{}}
	room := int64(maxUnpacked)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPackage, err)
		}
		if header.Typeflag != tar.TypeReg || !wanted(header.Name) {
			continue
		}
		if room -= header.Size; room < 0 {
			return nil, fmt.Errorf("%w: it unpacks to more than %d bytes", ErrPackage, maxUnpacked)
		}
		data := make([]byte, header.Size)
		if _, err := io.ReadFull(archive, data); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPackage, header.Name, err)
		}
		k.keep(path.Base(header.Name), data)
	}
	if k.Image == nil || len(k.builtin) == 0 || len(k.packed) == 0 {
		return nil, fmt.Errorf("%w: it lacks a kernel, its modules or their list", ErrPackage)
	}
	return k, nil
}

func wanted(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, "vmlinuz-") || base == "modules.builtin" ||
		strings.HasSuffix(base, ".ko") || strings.HasSuffix(base, ".ko.xz")
}

func (k *Kernel) keep(base string, data []byte) {
	switch {
	case strings.HasPrefix(base, "vmlinuz-"):
		k.Image, k.Release = data, strings.TrimPrefix(base, "vmlinuz-")
	case base == "modules.builtin":
		for line := range strings.Lines(string(data)) {
			k.builtin[moduleName(strings.TrimSpace(line))] = true
		}
	default:
		k.packed[moduleName(base)] = packedModule{data: data, compressed: strings.HasSuffix(base, ".xz")}
	}
}

// moduleName is the kernel's name of a module file: dashes are underscores.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".")
	return strings.ReplaceAll(name, "-", "_")
}
