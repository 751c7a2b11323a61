// Package release reads what a signed release says of itself: the registers a
// machine must show, the inputs it was built from, its version and its epoch.
//
// Invariants: Verify returns a manifest only where its signature verified, and
// its digest is that of the bytes as signed; ParseManifest looks at no
// signature and is for manifests that were verified before they were stored.
// Unknown fields and versions are refused. There is no network here:
// verification is by key, from bytes the caller holds.
package release

import (
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/payload"
)

// The manifest versions that this package reads.
const (
	// SchemaVersion is that of a release which leaves the firmware to the
	// cloud it runs on.
	SchemaVersion = 1
	// SchemaFirmware is that of a release with its own firmware.
	SchemaFirmware = 2
	// SchemaSecureBoot is that of a release whose own firmware starts with
	// Secure Boot on.
	SchemaSecureBoot = 3
	// SchemaPayload is that of a release that says what its payload is, whatever it
	// has of firmware.
	SchemaPayload = 4
	// SchemaDocuments is that of a release with documents about what it is made
	// of, whatever it has of firmware and payload.
	SchemaDocuments = 5
	// SchemaSecureBootChange is that of a release that changes one of Secure Boot's
	// variables on machines that run it, whatever else it has.
	SchemaSecureBootChange = 6
)

// MaxManifestBytes and MaxBundleBytes cap what is parsed.
const (
	MaxManifestBytes = 256 << 10
	MaxBundleBytes   = 64 << 10
)

// Manifest describes one release. Its canonical form is the JSON file
// manifest.json, and the release's digest is the SHA-256 of that file.
type Manifest struct {
	Schema int `json:"schema"`
	// Version is the release's semantic version, without a leading v.
	Version string `json:"version"`
	// Epoch is the security counter: a client refuses an epoch below the
	// highest one it has accepted.
	Epoch uint64 `json:"epoch"`
	// Architecture is Go's name of the machine's, such as "amd64".
	Architecture string `json:"architecture"`
	Disk         File   `json:"disk"`
	UKI          File   `json:"uki"`
	// StubVersion is the version of systemd-stub: it decides which sections
	// are measured and into which register.
	StubVersion int `json:"stub_version"`
	// Boots holds the expected registers, one entry for each firmware mode; with a
	// SecureBootChange one more, the last, for machines that have not made it yet.
	Boots []Boot `json:"boots"`
	// Firmware is the release's own; nil where the cloud has its own.
	Firmware *Firmware `json:"firmware,omitempty"`
	// Payload is the payload; nil for the toolshed where that is in the image.
	Payload *Payload `json:"payload,omitempty"`
	// Documents say what the image is made of; nil where there are none.
	Documents *Documents `json:"documents,omitempty"`
	// SecureBootChange is nil where the release leaves Secure Boot's variables as
	// they are.
	SecureBootChange *SecureBootChange `json:"secure_boot_change,omitempty"`
	// Inputs are everything that the image was made from, sorted by name.
	Inputs []Input `json:"inputs"`
}

// Documents stand beside the image. No verdict depends on them.
type Documents struct {
	// SBOM lists the parts, CycloneDX, and Provenance says how they became the
	// image, SLSA in an in-toto statement.
	SBOM       File `json:"sbom"`
	Provenance File `json:"provenance"`
}

// File is an artifact of the release.
type File struct {
	Name   string        `json:"name"`
	SHA256 attest.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
}

// Firmware is what a machine of the release starts with.
type Firmware struct {
	Code File `json:"code"`
	// Variables are the firmware's variables as a new machine has them.
	Variables File `json:"variables"`
	// SecureBoot says that those hold the release's keys, so that a machine
	// starts with Secure Boot on. It is accepted in no other mode then.
	SecureBoot bool `json:"secure_boot,omitempty"`
	// Shapes are the machines whose registers 0 and 1 are known, smallest
	// first.
	Shapes []Shape `json:"shapes"`
}

// Shape is what the firmware measures on one shape of machine: itself, the
// ACPI tables that it is given, and its boot variables.
type Shape struct {
	board.Shape
	// SHA256 and SHA384 map registers 0 and 1 to their values in lowercase hex.
	SHA256 map[string]string `json:"sha256"`
	SHA384 map[string]string `json:"sha384"`
}

// Payload is the server that a release's machines run, and where its files are:
// in the image, or beside it.
type Payload struct {
	payload.Spec
	// Root is nil where its files are in the image.
	Root *Root `json:"root,omitempty"`
}

// ToolshedInput names the input that is the toolshed.
const ToolshedInput = "bin/toolshed"

// OtherPayload is what a release's machines run in the toolshed's place; nil where
// they run that. Having the toolshed among its inputs does not make a release start
// it.
func (m *Manifest) OtherPayload() *payload.Spec {
	if m.Payload == nil {
		return nil
	}
	toolshed := slices.ContainsFunc(m.Inputs, func(in Input) bool { return in.Name == ToolshedInput })
	if toolshed && slices.Equal(m.Payload.Command, payload.Toolshed().Command) {
		return nil
	}
	return &m.Payload.Spec
}

// Root is a read-only file system on the boot disk. The measured command line
// names its hash, without which the machine takes no block of it.
type Root struct {
	File File `json:"file"`
	// RootHash is dm-verity's, over the first DataBytes of the file; its tree
	// follows them.
	RootHash  attest.Digest `json:"root_hash"`
	DataBytes int64         `json:"data_bytes"`
}

// Input is one ingredient of the image.
type Input struct {
	Name   string        `json:"name"`
	SHA256 attest.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
}

// Boot is what the registers hold after the image booted in one firmware mode.
type Boot struct {
	SecureBoot bool `json:"secure_boot"`
	// SHA256 and SHA384 map a register's number, in decimal, to its value in
	// lowercase hex: 4, 9 and 11 always, 7 where the mode fixes it.
	SHA256 map[string]string `json:"sha256"`
	SHA384 map[string]string `json:"sha384"`
	// Events are the SHA-256 digests whose extending, one after another, makes
	// the register of that number: they let a refusal name the event that
	// differs. Registers may be left out.
	Events map[string][]string `json:"events,omitempty"`
}

// ShapeCount is how many shapes of machine the release's firmware is known on;
// zero where it has no firmware of its own.
func (m *Manifest) ShapeCount() int {
	if m.Firmware == nil {
		return 0
	}
	return len(m.Firmware.Shapes)
}

// SecureBootOnly says that the release's own firmware has Secure Boot on, so
// that a boot with it off is none of the release's.
func (m *Manifest) SecureBootOnly() bool { return m.Firmware != nil && m.Firmware.SecureBoot }

// Shape is one of the release's shapes, nil where it has no firmware of its own.
func (m *Manifest) Shape(i int) *Shape {
	if m.Firmware == nil {
		return nil
	}
	return &m.Firmware.Shapes[i]
}
