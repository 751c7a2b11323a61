package imagebuild

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/provenance"
	"github.com/toolshed-cloud/shed/imagebuild/sbom"
)

// The names of what a build with a lock writes beside the image.
const (
	SBOMName       = "sbom.cdx.json"
	ProvenanceName = "provenance.json"
)

// recordLock makes the lock, with the source, one of the inputs.
func (b *builder) recordLock() error {
	carried := *b.Lock
	carried.Source = b.source
	encoded, err := carried.Encode()
	if err != nil {
		return err
	}
	b.carried = encoded
	b.record(LockName, attest.Sum(encoded), int64(len(encoded)))
	return b.keep(attest.Sum(encoded), encoded)
}

// usedPackages are the lock's, but a firmware that the release leaves to the
// cloud.
func (b *builder) usedPackages() []lock.Package {
	return slices.DeleteFunc(slices.Clone(b.locked.Packages), func(p lock.Package) bool {
		return p.Use == lock.Firmware && b.firmware == nil
	})
}

// writeDocuments says what the image was made of and how, where a lock does.
func (b *builder) writeDocuments(context.Context) error {
	if b.locked == nil {
		return nil
	}
	image, err := b.sbom()
	if err != nil {
		return err
	}
	bom, err := image.Encode()
	if err != nil {
		return err
	}
	sortInputs(&b.manifest)
	how, err := provenance.Of(&b.manifest, b.usedPackages(), b.Lock.Go, b.source)
	if err != nil {
		return err
	}
	b.manifest.Documents = &release.Documents{SBOM: fileOf(SBOMName, bom), Provenance: fileOf(ProvenanceName, how)}
	for name, data := range map[string][]byte{LockName: b.carried, SBOMName: bom, ProvenanceName: how} {
		if err := statefile.Write(filepath.Join(b.Output, name), 0o644, data); err != nil {
			return err
		}
	}
	return nil
}

// sbom is what there is to list. Signatures are none of the image's parts: they come
// after the list, which they do not change.
func (b *builder) sbom() (sbom.Image, error) {
	image := sbom.Image{Version: b.Version, Architecture: b.Architecture, Packages: b.usedPackages(), Modules: b.modules}
	listed := map[string]bool{SignatureName: true, WriteName: true, inputKernel: true, b.platform().firmware: true}
	for _, p := range image.Packages {
		for _, f := range p.Files {
			listed[inputAt(f.Path)] = true
		}
	}
	programs, err := b.programs()
	if err != nil {
		return sbom.Image{}, err
	}
	image.Programs = programs
	listed[inputInit], listed[inputToolshed] = true, true
	for _, in := range b.manifest.Inputs {
		// QEMU measures and is not in the image.
		if !listed[in.Name] && !slices.Contains(qemuPrograms, in.Name) {
			image.Others = append(image.Others, sbom.File{Path: in.Name, SHA256: in.SHA256})
		}
	}
	slices.SortFunc(image.Others, func(x, y sbom.File) int { return cmp.Compare(x.Path, y.Path) })
	return image, nil
}

// programs are the agent, and what the payload's tree has that can be started,
// by their names on the machine.
func (b *builder) programs() ([]sbom.Program, error) {
	found := []sbom.Program{{File: sbom.File{Path: inputInit, SHA256: attest.Sum(b.agent)}, Data: b.agent}}
	for _, name := range b.payload.tree.Names() {
		if e, _ := b.payload.tree.Entry(name); !e.Mode.IsRegular() || e.Mode.Perm()&0o111 == 0 {
			continue
		}
		data, err := b.payload.tree.Data(name)
		if err != nil {
			return nil, err
		}
		found = append(found, sbom.Program{File: sbom.File{Path: path.Join(payloadDir, name), SHA256: attest.Sum(data)}, Data: data})
	}
	return found, nil
}

func sortInputs(m *release.Manifest) {
	slices.SortFunc(m.Inputs, func(x, y release.Input) int { return strings.Compare(x.Name, y.Name) })
}

// storedProvenance reads back what the release in dir says of how it was made;
// nil where it says nothing.
func storedProvenance(dir string, m *release.Manifest) ([]byte, error) {
	if m.Documents == nil {
		return nil, nil
	}
	how, err := os.ReadFile(filepath.Join(dir, ProvenanceName))
	if err != nil {
		return nil, fmt.Errorf("reading the provenance: %w", err)
	}
	if attest.Sum(how) != m.Documents.Provenance.SHA256 {
		return nil, fmt.Errorf("%w: %s is not the one whose digest the manifest states", ErrSigning, ProvenanceName)
	}
	return how, nil
}

// provenanceAgain brings it up to the manifest, whose image was signed.
func provenanceAgain(dir string, m *release.Manifest, old []byte) error {
	if m.Documents == nil {
		return nil
	}
	how, err := provenance.Again(old, m)
	if err != nil {
		return err
	}
	m.Documents.Provenance = fileOf(ProvenanceName, how)
	return statefile.Write(filepath.Join(dir, ProvenanceName), 0o644, how)
}
