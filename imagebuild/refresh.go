package imagebuild

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
	"github.com/toolshed-cloud/shed/imagebuild/firmware"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
	"github.com/toolshed-cloud/shed/imagebuild/kernel"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
)

// NewLock is a lock of what Debian has now, for every architecture, and of a
// version of Go. Packages go into the cache. Errors match lock.ErrLock,
// debian.ErrLists or debian.ErrDownload.
func NewLock(ctx context.Context, goVersion, cache string, progress func(step string)) (*lock.Lock, error) {
	l := &lock.Lock{Schema: lock.Schema, Go: goVersion}
	if err := lock.ValidGo(goVersion); err != nil {
		return nil, err
	}
	for _, architecture := range []string{board.AMD64, board.ARM64} {
		progress("lock " + architecture)
		a, err := lockFor(ctx, architecture, cache)
		if err != nil {
			return nil, fmt.Errorf("locking packages for %s: %w", architecture, err)
		}
		l.Architectures = append(l.Architectures, *a)
	}
	_, err := l.Encode()
	return l, err
}

func lockFor(ctx context.Context, architecture, cache string) (*lock.Architecture, error) {
	exact, packages, err := debian.Foreign{
		Suite: foreignSuite, Architecture: architecture, Names: foreignPackages,
		Through: platforms[architecture].kernel, Concrete: kernel.Concrete,
	}.Newest(ctx, cache)
	if err != nil {
		return nil, err
	}
	ofFirmware, firmwares, err := debian.Foreign{
		Suite: firmware.Suite, Architecture: architecture, Names: []string{firmware.Package(architecture)},
	}.Newest(ctx, cache)
	if err != nil {
		return nil, err
	}
	exact, packages = append(exact, ofFirmware...), append(packages, firmwares...)
	last := len(packages) - 1
	root, err := debian.Unpack(ctx, packages[:last-1], cache)
	if err != nil {
		return nil, err
	}
	taken, err := takenFiles(architecture, root)
	if err != nil {
		return nil, err
	}
	a := &lock.Architecture{Name: architecture}
	for i, p := range packages {
		use := lock.Files
		switch i {
		case last - 1:
			use = lock.Kernel
		case last:
			use = lock.Firmware
		}
		locked, err := lockPackage(ctx, exact[i], p, use, taken)
		if err != nil {
			return nil, err
		}
		if len(locked.Files) > 0 {
			a.Packages = append(a.Packages, *locked)
		}
	}
	slices.SortFunc(a.Packages, func(x, y lock.Package) int { return cmp.Compare(x.Name, y.Name) })
	return a, nil
}

// takenFiles are the digests of what an image takes one by one.
func takenFiles(architecture, root string) (map[string]attest.Digest, error) {
	taken := map[string]attest.Digest{}
	mkfs, err := mkfsIn(root)
	if err != nil {
		return nil, err
	}
	for _, file := range []string{mkfs, filepath.Join(root, stubPaths[architecture])} {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading what was unpacked: %w", err)
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return nil, fmt.Errorf("reading what was unpacked: %w", err)
		}
		taken[name] = attest.Sum(data)
	}
	libraries, err := initrd.Libraries(root, mkfs)
	if err != nil {
		return nil, err
	}
	for _, l := range libraries {
		taken[strings.TrimPrefix(l.Path, "/")] = attest.Sum(l.Data)
	}
	return taken, nil
}

func lockPackage(ctx context.Context, exact debian.Exact, p *debian.Package, use lock.Use, taken map[string]attest.Digest) (*lock.Package, error) {
	digest, size, err := files.Digest(p.Path)
	if err != nil {
		return nil, err
	}
	if err := lock.Check(p.Path, p.SHA256, digest); err != nil {
		return nil, err
	}
	locked := &lock.Package{
		Name: exact.Name, Version: exact.Version, Architecture: exact.Architecture, Suite: exact.Suite,
		Use: use, SHA256: digest, Bytes: size,
	}
	locked.Files, err = filesOf(ctx, p.Path, use, taken)
	return locked, err
}

// maxLocked caps what is read of a package to lock it.
const maxLocked = 512 << 20

// filesOf are the files of a package that an image takes. The C library's names
// of its loader are links, of which the package has none as files: it is locked
// by the name that the image has.
func filesOf(ctx context.Context, file string, use lock.Use, taken map[string]attest.Digest) (found []lock.File, err error) {
	digests := map[string]attest.Digest{}
	err = debian.Files(ctx, file, maxLocked, func(name string) bool {
		switch use {
		case lock.Kernel:
			return strings.HasPrefix(name, "boot/vmlinuz-")
		case lock.Firmware:
			return firmware.Uses(name)
		}
		return true
	}, func(name string, data []byte) error {
		digests[name] = attest.Sum(data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if use != lock.Files {
		for name, digest := range digests {
			found = append(found, lock.File{Path: name, SHA256: digest})
		}
	} else {
		contents := map[attest.Digest]bool{}
		for _, digest := range digests {
			contents[digest] = true
		}
		for name, digest := range taken {
			if contents[digest] {
				found = append(found, lock.File{Path: name, SHA256: digest})
			}
		}
	}
	slices.SortFunc(found, func(x, y lock.File) int { return cmp.Compare(x.Path, y.Path) })
	return found, nil
}
