package imagebuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild/firmware"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
)

// RebuildOptions are what a release is made again from. All must be set but
// Source and Progress.
type RebuildOptions struct {
	// Release is a directory with a manifest and the files that it describes,
	// or a manifest alone.
	Release string
	// Inputs is an archive that Build filled.
	Inputs string
	// Output gets the rebuilt release.
	Output string
	// Cache keeps the registers that a firmware was seen to measure.
	Cache string
	// Source, where set, is a directory with the source that the release's
	// programs are to be what it makes.
	Source   string
	Progress func(step string)
}

// Rebuilt is what came of it.
type Rebuilt struct {
	// Same says that every byte is what the manifest states, the manifest's own
	// included, and that the files beside it are those.
	Same bool `json:"same"`
	// Release is the manifest's digest, Rebuilt that of the one that was made.
	Release attest.ReleaseDigest `json:"release"`
	Rebuilt attest.ReleaseDigest `json:"rebuilt"`
	// Compared are the files that lay beside the manifest; the others are
	// compared by their digests.
	Compared []string `json:"compared"`
	// NotMeasured says why the firmware's registers are the manifest's word;
	// empty where they were measured again, or the release has no firmware.
	NotMeasured string `json:"not_measured,omitempty"`
	// FromSource says that the programs were built from source and compared too.
	FromSource  bool         `json:"from_source"`
	Differences []Difference `json:"differences"`
}

// Difference is one place where the release is not what its inputs make.
type Difference struct {
	File string `json:"file"`
	// Where is a part of the file in words, Offset the first byte that differs;
	// -1 where that is not known.
	Where  string `json:"where"`
	Offset int64  `json:"offset"`
	// Input is what that part is made from; empty where it is this program
	// that makes it.
	Input string `json:"input,omitempty"`
}

// maxManifest caps a manifest, as the reader of manifests does.
const maxManifest = release.MaxManifestBytes

// Rebuild makes a release again from the archived inputs that its manifest
// names, and says where it is not the same. No signature is looked at: what is
// found holds for whoever signed this manifest. Errors are *InputsError, those
// of ParseManifest and of Build.
func Rebuild(ctx context.Context, o RebuildOptions) (*Rebuilt, error) {
	original, dir, err := readRelease(o.Release)
	if err != nil {
		return nil, err
	}
	stated, err := release.ParseManifest(original)
	if err != nil {
		return nil, err
	}
	b, err := o.builder(stated, dir)
	if b != nil {
		defer os.RemoveAll(b.SecureBootKeys) //nolint:errcheck // it is the system's to clean up then
	}
	if err != nil {
		return nil, err
	}
	made, err := b.build(ctx)
	if err != nil {
		return nil, err
	}
	encoded, err := made.Encode()
	if err != nil {
		return nil, err
	}
	r := &Rebuilt{
		Release: attest.ReleaseDigest(attest.Sum(original)), Rebuilt: attest.ReleaseDigest(attest.Sum(encoded)),
		Compared: []string{}, Differences: []Difference{}, NotMeasured: b.notMeasured,
	}
	c := &comparison{rebuilt: r, original: dir, made: o.Output, statedManifest: stated, madeManifest: made}
	if err := c.compare(original, encoded); err != nil {
		return nil, err
	}
	if o.Source != "" {
		b.Progress("build programs")
		different, err := o.fromSource(ctx, stated, b.Lock)
		if err != nil {
			return nil, err
		}
		r.Differences, r.FromSource = append(r.Differences, different...), true
	}
	r.Same = len(r.Differences) == 0
	return r, nil
}

// readRelease reads a manifest, and says in which directory its files would
// be; empty where a manifest alone was named.
func readRelease(name string) (manifest []byte, dir string, err error) {
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		dir, name = name, filepath.Join(name, ManifestName)
		info, err = os.Stat(name)
	}
	if err == nil && info.Size() > maxManifest {
		err = fmt.Errorf("%w: %s has %d bytes, at most %d", attest.ErrMalformed, name, info.Size(), maxManifest)
	}
	if err == nil {
		manifest, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the manifest: %w", err)
	}
	return manifest, dir, nil
}

// builder is set up as the one was that made the release.
// What SignImage made may also lie beside the manifest, where it put it.
func (o RebuildOptions) builder(m *release.Manifest, beside string) (*builder, error) {
	found, err := archived(o.Inputs, m.Inputs, beside)
	if err != nil {
		return nil, err
	}
	b := &builder{Options: Options{
		Output: o.Output, Version: m.Version, Epoch: m.Epoch, Cache: o.Cache, Progress: o.Progress,
		Architecture: m.Architecture, StubVersion: m.StubVersion,
		Agent: found[inputInit], Toolshed: found[inputToolshed], Stub: found[inputStub], Mkfs: found[inputMkfs],
		KernelPackage: found[inputKernel], FirmwarePackage: found[platforms[m.Architecture].firmware],
	}}
	wanted := []string{inputInit, inputStub, inputMkfs, inputKernel, b.takePayload(m, found)}
	for _, name := range wanted {
		if found[name] == "" {
			return nil, fmt.Errorf("%w: the manifest names no input %s", ErrOptions, name)
		}
	}
	if name := found[SignatureName]; name != "" {
		if b.signature, err = os.ReadFile(name); err != nil {
			return nil, fmt.Errorf("reading the image's signature: %w", err)
		}
	}
	if name := found[LockName]; name != "" {
		if err := b.readLock(name); err != nil {
			return nil, err
		}
	}
	if err := b.takeLibraries(m.Inputs, found); err != nil {
		return nil, err
	}
	if m.Firmware != nil {
		if err := b.takeFirmware(m); err != nil {
			return nil, err
		}
	}
	if err := b.takeKeys(found); err != nil {
		return b, err
	}
	return b, b.takeChange(m, found)
}

// readLock takes the lock that the release was built by.
func (b *builder) readLock(name string) error {
	encoded, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("reading the release's lock: %w", err)
	}
	b.Lock, err = lock.Parse(encoded)
	return err
}

// takePayload uses the files that the payload was made of, and answers the input's
// name.
func (b *builder) takePayload(m *release.Manifest, found map[string]string) (input string) {
	if b.Payload = m.OtherPayload(); b.Payload == nil {
		return inputToolshed
	}
	b.packedPayload, b.PayloadDir = found[inputPayloadTar], found[inputPayloadTar]
	return inputPayloadTar
}

// takeLibraries uses every input that has no other use: they are named by their
// paths in the image.
func (b *builder) takeLibraries(inputs []release.Input, found map[string]string) error {
	b.libraries = []initrd.Library{}
	for _, in := range inputs {
		if slices.Contains(ownInputs, in.Name) {
			continue
		}
		if !strings.HasPrefix(in.Name, "lib") && !strings.HasPrefix(in.Name, "usr/lib") {
			return fmt.Errorf("%w: the manifest names an input %q, and this program knows no use for it", ErrOptions, in.Name)
		}
		data, err := os.ReadFile(found[in.Name])
		if err != nil {
			return fmt.Errorf("reading the archived %s: %w", in.Name, err)
		}
		b.libraries = append(b.libraries, initrd.Library{Path: "/" + in.Name, Data: data})
	}
	return nil
}

// takeFirmware has the firmware measured again where this host's QEMU is the
// one that it was measured with, and takes the manifest's word otherwise: QEMU
// writes the tables that register 1 is made of.
func (b *builder) takeFirmware(m *release.Manifest) error {
	if b.FirmwarePackage == "" {
		return fmt.Errorf("%w: the release has a firmware and names no input %s", ErrOptions, b.platform().firmware)
	}
	for _, s := range m.Firmware.Shapes {
		b.Shapes = append(b.Shapes, s.Shape)
	}
	qemu := qemuOf(m.Architecture)
	n := slices.IndexFunc(m.Inputs, func(in release.Input) bool { return in.Name == qemu })
	if n < 0 {
		return fmt.Errorf("%w: the release has a firmware and names no input %s", ErrOptions, qemu)
	}
	if why := cannotMeasure(m.Inputs[n]); why != "" {
		b.notMeasured, b.stated = why, m
	}
	return nil
}

func cannotMeasure(stated release.Input) string {
	for _, program := range []string{stated.Name, swtpmProgram} {
		if _, err := exec.LookPath(program); err != nil {
			return "there is no " + program + " here"
		}
	}
	path, err := exec.LookPath(stated.Name)
	if err != nil {
		return "there is no " + stated.Name + " here"
	}
	digest, _, err := files.Digest(path)
	if err != nil {
		return err.Error()
	}
	if digest != stated.SHA256 {
		return fmt.Sprintf("%s here is %.16s…, and the release was measured with %.16s…", stated.Name, digest, stated.SHA256)
	}
	return ""
}

// asStated are the firmware's registers by the manifest's word.
func (b *builder) asStated() error {
	n := slices.IndexFunc(b.stated.Inputs, func(in release.Input) bool { return in.Name == qemuOf(b.Architecture) })
	b.manifest.Inputs = append(b.manifest.Inputs, b.stated.Inputs[n])
	b.manifest.Firmware = &release.Firmware{
		Code: fileOf(FirmwareName, b.firmware.Code), Variables: fileOf(VariablesName, b.firmware.Variables),
		Shapes: b.stated.Firmware.Shapes, SecureBoot: b.keys != nil,
	}
	for _, boot := range b.stated.Boots {
		if !boot.SecureBoot {
			b.withoutKeys = firmware.Registers{SHA256: boot.SHA256, SHA384: boot.SHA384}
		}
	}
	return nil
}

// takeKeys lays Secure Boot's variables out as a build is given them, in a
// directory that the caller removes.
func (b *builder) takeKeys(found map[string]string) error {
	for _, name := range secureboot.FileNames() {
		if found[name] == "" {
			continue
		}
		if b.SecureBootKeys == "" {
			dir, err := os.MkdirTemp("", "shed-keys-")
			if err != nil {
				return fmt.Errorf("laying out Secure Boot's keys: %w", err)
			}
			b.SecureBootKeys = dir
		}
		data, err := os.ReadFile(found[name])
		if err == nil {
			err = os.WriteFile(filepath.Join(b.SecureBootKeys, name), data, 0o600)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("laying out Secure Boot's keys: %w", err)
		}
	}
	return nil
}
