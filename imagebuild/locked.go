package imagebuild

import (
	"context"
	"debug/buildinfo"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/source"
)

// LockName is the lock that a release carries: the one it was built by, with
// its source.
const LockName = "image.lock"

//go:embed image.lock
var builtIn []byte

// BuiltInLock is the lock that this program was made with. Errors match
// lock.ErrLock.
func BuiltInLock() (*lock.Lock, error) { return lock.Parse(builtIn) }

// Where the packages have what an image takes one by one.
var (
	stubPaths = map[string]string{
		board.AMD64: "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
		board.ARM64: "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
	}
	mkfsPaths = []string{"usr/bin/mkfs.btrfs", "sbin/mkfs.btrfs"}
)

const stubPackage = "systemd-boot-efi"

// takeLock has everything of Debian come from the lock's packages, but what was
// named as a file, which then has to be the locked one.
func (b *builder) takeLock(ctx context.Context) error {
	if b.Lock == nil {
		return nil
	}
	locked, err := b.Lock.For(b.Architecture)
	if err != nil {
		return err
	}
	b.locked = locked
	if err := b.checkPrograms(); err != nil {
		return err
	}
	if err := b.checkSource(); err != nil {
		return err
	}
	if err := b.recordLock(); err != nil || b.libraries != nil {
		// A rebuild has each file already.
		return err
	}
	b.Progress("fetch packages")
	packages, err := b.lockedPackages(ctx)
	if err != nil {
		return explainLocked(err)
	}
	return b.useLocked(ctx, packages)
}

// lockedPackages are those that were not named as files, by their names.
func (b *builder) lockedPackages(ctx context.Context) (map[string]*debian.Package, error) {
	var wanted []debian.Exact
	for _, p := range b.locked.Packages {
		named := p.Use == lock.Kernel && b.KernelPackage != "" || p.Use == lock.Firmware && (b.FirmwarePackage != "" || len(b.Shapes) == 0)
		if !named {
			wanted = append(wanted, debian.Exact{Name: p.Name, Version: p.Version, Architecture: p.Architecture, Suite: p.Suite, SHA256: p.SHA256})
		}
	}
	fetched, err := debian.FetchExact(ctx, wanted, b.Architecture, b.Archive, b.Cache)
	if err != nil {
		return nil, err
	}
	byName := map[string]*debian.Package{}
	for _, p := range fetched {
		byName[p.Name] = p
		if err := b.keepFile(p.SHA256, p.Path); err != nil {
			return nil, err
		}
	}
	return byName, nil
}

func (b *builder) useLocked(ctx context.Context, packages map[string]*debian.Package) error {
	var unpacked []*debian.Package
	for _, p := range b.locked.Packages {
		there := packages[p.Name]
		switch {
		case p.Use == lock.Kernel && there != nil:
			b.KernelPackage = there.Path
		case p.Use == lock.Firmware && there != nil:
			b.FirmwarePackage = there.Path
		case p.Use == lock.Files:
			unpacked = append(unpacked, there)
		}
		if p.Name == stubPackage && b.StubVersion == 0 {
			b.StubVersion = majorVersion(p.Version)
		}
	}
	root, err := debian.Unpack(ctx, unpacked, b.Cache)
	if err != nil {
		return err
	}
	b.root = root
	if b.Stub == "" {
		b.Stub = filepath.Join(root, stubPaths[b.Architecture])
	}
	if b.Mkfs == "" {
		b.Mkfs, err = mkfsIn(root)
	}
	return err
}

// mkfsIn finds mkfs.btrfs among unpacked packages.
func mkfsIn(root string) (string, error) {
	for _, p := range mkfsPaths {
		if file := filepath.Join(root, p); isFile(file) {
			return file, nil
		}
	}
	return "", fmt.Errorf("%w: there is no mkfs.btrfs in them", debian.ErrArchive)
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// explainLocked makes a package that is another than the locked one a mismatch.
func explainLocked(err error) error {
	var other *debian.DigestError
	if errors.As(err, &other) {
		return lock.Check(other.File, other.Wanted, other.Have)
	}
	return fmt.Errorf("fetching the lock's packages: %w", err)
}

// checkLocked holds everything that went into the image against the lock: a
// file that was named, and what lay unpacked in the cache.
func (b *builder) checkLocked(context.Context) error {
	if b.locked == nil {
		return nil
	}
	wanted := map[string]attest.Digest{}
	for _, p := range b.locked.Packages {
		switch p.Use {
		case lock.Kernel:
			wanted[inputKernel] = p.SHA256
		case lock.Firmware:
			wanted[b.platform().firmware] = p.SHA256
		}
		for _, f := range p.Files {
			wanted[inputAt(f.Path)] = f.SHA256
		}
	}
	for _, in := range b.manifest.Inputs {
		if locked, known := wanted[in.Name]; known {
			if err := lock.Check(in.Name, locked, in.SHA256); err != nil {
				return err
			}
		} else if strings.HasPrefix(in.Name, "lib") || strings.HasPrefix(in.Name, "usr/lib") {
			return &lock.MismatchError{What: in.Name, Locked: "no library of the image", Found: "sha256 " + in.SHA256.String()}
		}
	}
	return nil
}

// inputAt is the input that a file of a package becomes.
func inputAt(path string) string {
	switch {
	case slices.Contains(mkfsPaths, path):
		return inputMkfs
	case path == stubPaths[board.AMD64], path == stubPaths[board.ARM64]:
		return inputStub
	}
	return path
}

// checkPrograms wants the image's own programs built by the locked Go. Another
// payload is whatever it is.
func (b *builder) checkPrograms() error {
	programs := map[string]string{inputInit: b.Agent}
	if b.Payload == nil {
		programs[inputToolshed] = b.Toolshed
	}
	for name, file := range programs {
		info, err := buildinfo.ReadFile(file)
		var broken *fs.PathError
		if errors.As(err, &broken) {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if err != nil {
			return &lock.MismatchError{What: name, Found: "no program of Go's", Locked: "built by " + b.Lock.Go}
		}
		if info.GoVersion != b.Lock.Go {
			return &lock.MismatchError{What: name, Found: "built by " + info.GoVersion, Locked: "built by " + b.Lock.Go}
		}
	}
	return nil
}

// checkSource notes which source the programs are of, and wants it to be the
// lock's where that names one.
func (b *builder) checkSource() error {
	if b.Source == "" {
		b.source = b.Lock.Source
		return nil
	}
	digest, err := source.Digest(b.Source)
	if err != nil {
		return err
	}
	b.source = digest
	if b.Lock.Source.IsZero() {
		return nil
	}
	return lock.Check("the source in "+b.Source, b.Lock.Source, digest)
}
