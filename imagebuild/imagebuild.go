// Package imagebuild makes a release: a bootable disk with one unified kernel
// image on it, and the manifest that says what a machine which booted it must
// show.
//
// Invariants: the same inputs give the same bytes, so the manifest holds no
// time, path or host name; every file that went into the image is an input in
// the manifest, with its digest; the registers expected of the image are
// computed from its bytes alone, those of the firmware are what it was seen to
// measure; nothing is run that was built.
package imagebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
	"github.com/toolshed-cloud/shed/imagebuild/firmware"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
	"github.com/toolshed-cloud/shed/imagebuild/kernel"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/registers"
	"github.com/toolshed-cloud/shed/imagebuild/sbom"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// The names of what Build writes.
const (
	DiskName     = "disk.raw"
	UKIName      = "uki.efi"
	ManifestName = "manifest.json"
	// FirmwareName and VariablesName are there where the release has its own.
	FirmwareName  = "firmware.fd"
	VariablesName = "variables.fd"
	// SignatureName is the image's signature for Secure Boot, which is attached
	// to it, by itself. SignImage writes it.
	SignatureName = UKIName + ".p7"
	// BundleName, TrustedRootName and EntryName are the manifest's signature, which
	// package sign writes.
	BundleName      = ManifestName + ".sigstore.json"
	TrustedRootName = "trusted_root.json"
	EntryName       = "release.entry"
	// WriteName is what has a machine that runs change one of Secure Boot's
	// variables: the new contents, signed by KEK.
	WriteName = "secure-boot.auth"
)

// Where Debian puts what the image is made from.
const (
	DefaultStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	DefaultMkfs = "/usr/sbin/mkfs.btrfs"
)

// Options are the inputs of an image. Agent, Toolshed, Output, Cache, Version
// and Epoch must be set.
type Options struct {
	// Output is the directory that the release is written to.
	Output string
	// Version and Epoch go into the manifest and into the image.
	Version string
	Epoch   uint64
	// Architecture is of the machines, board.AMD64 (also where it is empty) or
	// board.ARM64; Agent and Toolshed are programs for it.
	Architecture string
	// Agent becomes /init, Toolshed the payload where there is no other; both
	// static programs.
	Agent    string
	Toolshed string
	// Payload, where set, is what runs in the toolshed's place, from the files of
	// PayloadDir: of its command, a program without a path is looked for there.
	Payload    *payload.Spec
	PayloadDir string
	// Cache keeps the kernel package between builds.
	Cache string
	// Archive, where set, is a directory that gets every input but QEMU, under
	// its SHA-256, for Rebuild.
	Archive string
	// KernelPackage is a package file to use as it is; empty fetches
	// kernel.DefaultPackage by apt.
	KernelPackage string
	// Shapes are the machines that the release has its own firmware for;
	// without any it is left to the cloud, and registers 0 and 1 with it.
	Shapes []board.Shape
	// FirmwarePackage is a package file to use as it is; empty fetches
	// firmware.Package by apt.
	FirmwarePackage string
	// Stub and Mkfs replace DefaultStub and DefaultMkfs, and on ARM64 those of
	// Debian's packages. StubVersion is the stub's where that does not say.
	Stub        string
	StubVersion int
	Mkfs        string
	// SecureBootKeys is a directory with PK.esl, KEK.esl, db.esl and, where
	// there is one, dbx.esl, as they are enrolled in the machines that the
	// release is for: by its own firmware, which has Secure Boot then, or by a
	// cloud. Without it register 7 is left out for Secure Boot on. No private
	// key is looked at: SignImage is for that.
	SecureBootKeys string
	// SecureBootKeysBefore, where set, is such a directory as the machines have them
	// that are updated in place: the release changes the one list that differs there.
	SecureBootKeysBefore string
	// Lock, where set, says which packages the image is made of: those that are
	// in Archive or Cache, or Debian's. Source is the directory that Agent and
	// Toolshed were built from; empty takes the lock's word for it.
	Lock   *lock.Lock
	Source string
	// Progress, where set, hears the name of each step as it begins.
	Progress func(step string)
}

// MissingError says that a file of the host is missing, and which Debian
// package has it.
type MissingError struct {
	Path    string
	Package string
}

func (e *MissingError) Error() string { return "there is no " + e.Path }

// ErrOptions says that the options are incomplete or contradict themselves.
var ErrOptions = errors.New("invalid image options")

// Build makes a release and writes disk.raw, uki.efi, the firmware where it is
// the release's own, and manifest.json, the manifest last. Errors match ErrOptions, *MissingError, attest.ErrRelease
// where the version or epoch is refused, or those of the packages below.
func Build(ctx context.Context, o Options) (*release.Manifest, error) {
	return (&builder{Options: o}).build(ctx)
}

func (b *builder) build(ctx context.Context) (*release.Manifest, error) {
	b.Architecture = cmp.Or(b.Architecture, board.AMD64)
	b.manifest.Version, b.manifest.Epoch, b.manifest.Architecture = b.Version, b.Epoch, b.Architecture
	if b.Architecture == board.AMD64 && b.Lock == nil {
		b.Stub = cmp.Or(b.Stub, DefaultStub)
		b.Mkfs = cmp.Or(b.Mkfs, DefaultMkfs)
	}
	if b.Progress == nil {
		b.Progress = func(string) {}
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	if err := b.takeLock(ctx); err != nil {
		return nil, err
	}
	if err := b.fetchForeign(ctx); err != nil {
		return nil, err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"read inputs", b.readInputs},
		{"read payload", b.readPayload},
		{"fetch kernel", b.fetchKernel},
		{"fetch firmware", b.fetchFirmware},
		{"measure firmware", b.measureFirmware},
		{"make initrd", b.makeInitrd},
		{"check lock", b.checkLocked},
		{"make image", b.makeUKI},
		{"compute registers", b.computeRegisters},
		{"write payload", b.writePayload},
		{"write disk", b.writeDisk},
		{"write firmware", b.writeFirmware},
		{"write keys", b.writeKeys},
		{"write change", b.writeChange},
		{"write documents", b.writeDocuments},
		{"write manifest", b.writeManifest},
	} {
		b.Progress(step.name)
		if err := step.do(ctx); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return &b.manifest, nil
}

func (o Options) check() error {
	for name, value := range map[string]string{
		"output": o.Output, "agent": o.Agent, "toolshed": o.Toolshed, "payload": o.PayloadDir,
	} {
		// One of the two is what the machines run.
		if value == "" && (name != "payload" || o.Payload != nil) && (name != "toolshed" || o.Payload == nil) {
			return fmt.Errorf("%w: %s is unset", ErrOptions, name)
		}
	}
	if o.Cache == "" && (o.KernelPackage == "" || o.FirmwarePackage == "" && len(o.Shapes) > 0) {
		return fmt.Errorf("%w: neither cache nor kernel and firmware package are set", ErrOptions)
	}
	if _, known := platforms[o.Architecture]; !known {
		return fmt.Errorf("%w: architecture %q is neither %s nor %s", ErrOptions, o.Architecture, board.AMD64, board.ARM64)
	}
	if o.Epoch == 0 {
		return fmt.Errorf("%w: epoch is unset, want 1 or more", ErrOptions)
	}
	if err := release.ValidVersion(o.Version); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return nil
}

// builder carries what one step makes to the next.
type builder struct {
	Options
	stub, agent []byte
	payload     packed
	kernel      *kernel.Kernel
	keys        *secureboot.Keys
	// before are the keys of machines that run; nil where they are the same.
	before *secureboot.Keys
	// root is where Mkfs finds its libraries; empty is the host's.
	root     string
	firmware *firmware.Firmware
	// withoutKeys is what the release's own firmware measures.
	withoutKeys   firmware.Registers
	initrd, image []byte
	manifest      release.Manifest

	// signature, where not nil, is attached to the image, and write goes beside it.
	signature, write []byte
	// locked is the lock's part for the architecture, nil without a lock, and
	// source what the programs were built from.
	locked *lock.Architecture
	source attest.Digest
	// carried is the lock as the release has it, and modules are the kernel's
	// that the image has.
	carried []byte
	modules []sbom.File
	// libraries, where not nil, are mkfs.btrfs's in a rebuild, and stated the
	// manifest whose word is taken for the firmware's registers.
	libraries []initrd.Library
	// packedPayload, where not empty, has the files of Payload as an earlier build
	// recorded them.
	packedPayload string
	stated        *release.Manifest
	notMeasured   string
}

// The names of inputs in a manifest. Every other is a library's path.
const (
	inputStub     = "systemd-stub"
	inputInit     = "init"
	inputToolshed = release.ToolshedInput
	inputKernel   = "linux.deb"
	inputMkfs     = "sbin/mkfs.btrfs"
)

// ownInputs are all inputs that are no library.
var ownInputs = append([]string{
	inputStub, inputInit, inputToolshed, inputPayloadTar, inputKernel, inputMkfs, SignatureName, WriteName, inputBefore, LockName,
}, slices.Concat(secureboot.FileNames(), firmwareInputs, qemuPrograms)...)

// readInputs comes first, and refuses an image whose registers could not be
// predicted before anything is fetched or made.
func (b *builder) readInputs(context.Context) error {
	var err error
	if b.stub, err = b.input(inputStub, b.Stub, "systemd-boot-efi"); err != nil {
		return err
	}
	if err = b.checkPredictable(); err != nil {
		return err
	}
	b.agent, err = b.input(inputInit, b.Agent, "")
	return err
}

// checkPredictable reads what decides how the image is measured.
func (b *builder) checkPredictable() error {
	version, err := uki.StubVersion(b.stub)
	if err != nil && b.StubVersion > 0 {
		version, err = b.StubVersion, nil
	}
	if err != nil {
		return fmt.Errorf("reading stub: %w", err)
	}
	if err := registers.CheckStub(version); err != nil {
		return err
	}
	b.manifest.StubVersion = version
	if b.keys, err = b.readKeys(); err != nil {
		return err
	}
	if err := b.readKeysBefore(); err != nil {
		return err
	}
	return b.checkMeasurable()
}

// input reads a file and records it in the manifest under name. Where it is
// missing, debian names the package that has it.
func (b *builder) input(name, file, debian string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) && debian != "" {
		return nil, &MissingError{Path: file, Package: debian}
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	digest := attest.Sum(data)
	b.record(name, digest, int64(len(data)))
	return data, b.keep(digest, data)
}

func (b *builder) record(name string, digest attest.Digest, bytes int64) {
	b.manifest.Inputs = append(b.manifest.Inputs, release.Input{Name: name, SHA256: digest, Bytes: bytes})
}

func (b *builder) fetchKernel(ctx context.Context) error {
	file := b.KernelPackage
	if file == "" {
		p, err := kernel.Fetch(ctx, b.platform().kernel, b.Cache)
		if err != nil {
			return fmt.Errorf("fetching kernel: %w", err)
		}
		file = p.Path
	}
	digest, bytes, err := files.Digest(file)
	if err != nil {
		return fmt.Errorf("reading kernel package: %w", err)
	}
	b.record(inputKernel, digest, bytes)
	if err := b.keepFile(digest, file); err != nil {
		return err
	}
	b.kernel, err = kernel.Open(ctx, file)
	return err
}

func (b *builder) makeUKI(context.Context) error {
	osRelease := fmt.Sprintf("ID=shed\nNAME=\"Shed\"\nVERSION_ID=%q\nSHED_EPOCH=%d\n", b.Version, b.Epoch)
	var err error
	b.image, err = uki.Assemble(b.stub, []uki.Section{
		{Name: ".osrel", Data: []byte(osRelease)},
		{Name: ".cmdline", Data: []byte(b.commandLine())},
		{Name: ".initrd", Data: b.initrd},
		{Name: ".linux", Data: b.kernel.Image},
	})
	if err != nil {
		return fmt.Errorf("making image: %w", err)
	}
	if b.signature != nil {
		if b.image, err = uki.Attach(b.image, b.signature); err != nil {
			return fmt.Errorf("attaching the signature: %w", err)
		}
		b.record(SignatureName, attest.Sum(b.signature), int64(len(b.signature)))
	}
	if err := os.MkdirAll(b.Output, 0o755); err != nil {
		return fmt.Errorf("making output directory: %w", err)
	}
	if err := Clear(b.Output); err != nil {
		return err
	}
	if b.signature != nil {
		if err := statefile.Write(filepath.Join(b.Output, SignatureName), 0o644, b.signature); err != nil {
			return err
		}
	}
	b.manifest.UKI = fileOf(UKIName, b.image)
	return statefile.Write(filepath.Join(b.Output, UKIName), 0o644, b.image)
}

// signed is what a signature adds, which is of one manifest alone.
var signed = []string{BundleName, TrustedRootName, EntryName}

// Clear removes what an earlier release, or a signing that was killed, left in dir, but
// the files whose names are kept and those that every release has. The manifest goes
// first, so that none ever stands beside files that it does not describe. Errors are
// the file system's.
func Clear(dir string, kept ...string) error {
	all := slices.Concat([]string{ManifestName}, signed, []string{
		FirmwareName, VariablesName, SignatureName, WriteName, PayloadName, LockName, SBOMName, ProvenanceName,
	}, secureboot.FileNames())
	err := remove(dir, slices.DeleteFunc(all, func(name string) bool { return slices.Contains(kept, name) }))
	if err == nil {
		err = os.RemoveAll(filepath.Join(dir, stagedName))
	}
	if err != nil {
		return fmt.Errorf("removing an earlier release: %w", err)
	}
	return nil
}

// remove removes those files of dir that are there, in that order.
func remove(dir string, names []string) error {
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (b *builder) computeRegisters(context.Context) error {
	for _, secureBoot := range []bool{false, true} {
		boot, err := registers.Expect(registers.Boot{
			UKI: b.image, StubVersion: b.manifest.StubVersion, SecureBoot: secureBoot, Keys: b.keys,
		})
		if err != nil {
			return fmt.Errorf("computing registers: %w", err)
		}
		if b.firmware != nil && b.keys == nil && !secureBoot {
			boot.SHA256["7"], boot.SHA384["7"] = b.withoutKeys.SHA256["7"], b.withoutKeys.SHA384["7"]
		}
		b.manifest.Boots = append(b.manifest.Boots, boot)
	}
	return b.computeBefore()
}

// readKeys reads Secure Boot's variables; nil where none were named.
func (b *builder) readKeys() (*secureboot.Keys, error) {
	if b.SecureBootKeys == "" {
		return nil, nil //nolint:nilnil // no keys are an answer
	}
	keys, err := secureboot.Read(b.SecureBootKeys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	for _, f := range keys.Files() {
		b.record(f.Name, attest.Sum(f.Data), int64(len(f.Data)))
		if err := b.keep(attest.Sum(f.Data), f.Data); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// writePayload writes what the boot disk has of the payload by itself too, for
// updates.
func (b *builder) writePayload(context.Context) error {
	if b.payload.root == nil {
		return nil
	}
	file := b.payload.file
	b.manifest.Payload.Root = &release.Root{
		File: fileOf(PayloadName, file), RootHash: b.payload.root.Hash, DataBytes: b.payload.root.DataBytes,
	}
	return statefile.Write(filepath.Join(b.Output, PayloadName), 0o644, file)
}

func (b *builder) writeDisk(context.Context) error {
	name := filepath.Join(b.Output, DiskName)
	var err error
	b.manifest.Disk, err = writeDisk(name, diskFiles(b.Architecture, b.image, b.payload.root, b.payload.file))
	return err
}

// writeDisk lays out a disk with the image on it.
func writeDisk(name string, contents []disk.File) (release.File, error) {
	err := statefile.Fill(name, 0o644, func(f *os.File) error {
		if err := f.Truncate(disk.Size); err != nil {
			return err
		}
		return disk.Write(f, contents)
	})
	if err != nil {
		return release.File{}, err
	}
	digest, bytes, err := files.Digest(name)
	return release.File{Name: filepath.Base(name), SHA256: digest, Bytes: bytes}, err
}

func (b *builder) writeManifest(context.Context) error {
	m := &b.manifest
	m.Schema = release.SchemaVersion
	switch {
	case m.SecureBootChange != nil:
		m.Schema = release.SchemaSecureBootChange
	case m.Documents != nil:
		m.Schema = release.SchemaDocuments
	case m.Payload != nil:
		m.Schema = release.SchemaPayload
	case m.SecureBootOnly():
		m.Schema = release.SchemaSecureBoot
	case m.Firmware != nil:
		m.Schema = release.SchemaFirmware
	}
	sortInputs(m)
	encoded, err := m.Encode()
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(b.Output, ManifestName), 0o644, encoded)
}
