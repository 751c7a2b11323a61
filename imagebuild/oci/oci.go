// Package oci carries releases to and from registries, as OCI 1.1 artifacts.
//
// Invariants: a registry is believed in nothing: before anything large is
// fetched the manifest's signature by a key of the caller's has verified, and
// every byte that is kept has the digest that the signed manifest states; no
// file of a release stands under its name before all of it was compared; the
// same release is the same artifact. Redirects lead nowhere that only this
// machine can reach.
package oci

import (
	"errors"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
)

// The types in a registry.
const (
	// ArtifactType is a release's.
	ArtifactType = "application/vnd.toolshed-cloud.shed.release.v1"
	// SignatureType is that of the artifact with the signature, whose subject
	// is the release's: Sigstore's own.
	SignatureType = release.BundleMediaType

	manifestType = "application/vnd.toolshed-cloud.shed.manifest.v1+json"
	diskType     = "application/vnd.toolshed-cloud.shed.disk.v1.raw+zstd"
	fileType     = "application/vnd.toolshed-cloud.shed.file.v1"
	entryType    = "application/vnd.toolshed-cloud.shed.logentry.v1"
)

// diskName is the disk's in the artifact, which is compressed: most of it is
// zeros.
const diskName = imagebuild.DiskName + ".zst"

// The ways in which a registry fails a release.
var (
	// ErrReference says that a name is none of a repository with a tag or
	// digest.
	ErrReference = errors.New("not a reference such as registry.example/shed:1.2.3")
	// ErrArtifact says that what a registry has is no release.
	ErrArtifact = errors.New("not a release")
	// ErrUnsigned says that no signature verifies by the key.
	ErrUnsigned = errors.New("no signature of the release verifies by the key")
	// ErrTampered says that what came is not what the signed manifest states.
	ErrTampered = errors.New("not what was signed")
	// ErrIncomplete says that a transfer broke off; what came is kept for the
	// next one.
	ErrIncomplete = errors.New("the transfer broke off")
	// ErrDestination says that a registry sent us where it may not.
	ErrDestination = errors.New("the registry leads to an address that it may not")
)

// Progress hears how much of a file is there.
type Progress func(file string, done, total int64)

// Options are of a transfer.
type Options struct {
	// Reference is a repository with a tag or digest.
	Reference string
	// PlainHTTP is for a registry without TLS.
	PlainHTTP bool
	// Progress may be nil.
	Progress Progress
}

func (o Options) tell(file string, done, total int64) {
	if o.Progress != nil {
		o.Progress(file, done, total)
	}
}

// part is a file of a release, as the manifest states it.
type part struct {
	release.File
	optional bool
}

// layerName is the part's in the artifact.
func (p part) layerName() string {
	if p.Name == imagebuild.DiskName {
		return diskName
	}
	return p.Name
}

func (p part) mediaType() string {
	if p.Name == imagebuild.DiskName {
		return diskType
	}
	return fileType
}

// parts are the files that stand beside a manifest, smallest last.
func parts(m *release.Manifest) []part {
	all := []part{{File: m.Disk}, {File: m.UKI}}
	if m.Firmware != nil {
		all = append(all, part{File: m.Firmware.Code}, part{File: m.Firmware.Variables})
	}
	if m.Payload != nil && m.Payload.Root != nil {
		all = append(all, part{File: m.Payload.Root.File})
	}
	if m.Documents != nil {
		all = append(all, part{File: m.Documents.SBOM}, part{File: m.Documents.Provenance})
	}
	// Inputs that a build leaves beside the image too.
	beside := append([]string{imagebuild.LockName, imagebuild.SignatureName, imagebuild.WriteName}, secureboot.FileNames()...)
	for _, in := range m.Inputs {
		for _, name := range beside {
			if in.Name == name && in.Bytes > 0 {
				all = append(all, part{File: release.File(in), optional: true})
			}
		}
	}
	return all
}

// title is the name of a layer's file, plain or empty.
func title(layer ocispec.Descriptor) string {
	name := layer.Annotations[ocispec.AnnotationTitle]
	if name != filepath.Base(name) || name == "." || name == ".." {
		return ""
	}
	return name
}
