// Package providers is the contract between the control plane and the plugins
// that make machines out of a cloud's API.
//
// Invariants: a provider keeps no state of its own beyond the cloud's; calls
// return when the cloud has accepted, never when a machine has booted; every
// call may be repeated; and everything made carries the installation's tag from
// the moment it exists, so that List finds it whatever crashed.
package providers

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
)

// ContractVersion is the version of this contract; the host refuses a plugin
// that speaks another.
const ContractVersion = 2

// InstallationID is one control plane's random id.
type InstallationID string

// MachineID names one machine for ever: it is never used twice.
type MachineID string

// Machines makes and unmakes machines. Errors are *Error.
type Machines interface {
	// Create accepts a machine. The same machine with the same spec hash is
	// fine and answers what is there, whatever the generation; another hash is
	// CodeConflict, a creation under way CodeAborted. After
	// CodeOutcomeUnknown, Get first.
	Create(ctx context.Context, req CreateRequest) (Machine, error)
	// Get answers one machine; CodeNotFound only when that is authoritative.
	Get(ctx context.Context, id MachineID) (Machine, error)
	// List answers every resource of any kind that carries the installation,
	// machines or leftovers, a page at a time.
	List(ctx context.Context, installation InstallationID, page string) (Page, error)
	// SetPower asks for the machine to be on or off. Off is a clean shutdown
	// first, and the power cut after the provider's grace period.
	SetPower(ctx context.Context, id MachineID, on bool) error
	// Apply brings what may change about a machine to what is desired, and
	// mends its drift. A generation older than the machine's is CodeConflict,
	// and changes nothing; the same one again is fine. A disk that would
	// shrink is CodeInvalid.
	Apply(ctx context.Context, change Change) (Machine, error)
	// Delete destroys the machine and all that belongs to it, but for the
	// data disk where keepData is set. An absent machine is fine; leftovers
	// of a half-made one are cleaned.
	Delete(ctx context.Context, id MachineID, keepData bool) error
}

// Catalog says what a provider is and can make.
type Catalog interface {
	// Info answers who the plugin is; it works before Configure.
	Info(ctx context.Context) (Info, error)
	// Configure hands over the provider's own settings, a JSON object checked
	// against Info's ConfigSchema. It can be called again, as when
	// credentials rotate.
	Configure(ctx context.Context, settings []byte) error
	// Offerings lists what can be created and at what price.
	Offerings(ctx context.Context) ([]Offering, error)
	// EnsureImage makes a release's disk and firmware available, verifying
	// their bytes against the image's digests. It is idempotent and reports progress.
	EnsureImage(ctx context.Context, image Image, progress func(done, total int64)) error
}

// Provider is a whole plugin.
type Provider interface {
	Catalog
	Machines
	io.Closer
}

// Info describes a plugin.
type Info struct {
	Name            string
	Version         string
	ContractVersion int
	Capabilities    []Capability
	// ConfigSchema is a JSON Schema (2020-12) of what Configure takes.
	ConfigSchema []byte
	// Notes are facts an operator should see, such as "software emulation:
	// /dev/kvm does not boot a guest".
	Notes []string
}

// Offering is a size that can be had in a region.
type Offering struct {
	Region string
	Size   string
	VCPUs  int
	// MemoryBytes is the machine's memory.
	MemoryBytes int64
	// Available is how many more the quota allows; -1 where unknown.
	Available int
	// MicrosPerHour is the price in millionths of Currency; 0 for one's own
	// hardware. PricedAt is when it was the price; zero where it was just
	// asked for.
	MicrosPerHour int64
	Currency      string
	PricedAt      time.Time
	// Confidential names how the machine's memory is kept from the host, such
	// as "sev-snp"; empty where it is not.
	Confidential string
}

// Image is a release's disk, and its firmware, where the control plane has them.
type Image struct {
	Release attest.ReleaseDigest
	// Path is a file readable by the plugin; SHA256 and Bytes are what it
	// must hold.
	Path   string
	SHA256 attest.Digest
	Bytes  int64
	// Architecture is Go's name of the machines', board.AMD64 or board.ARM64.
	Architecture string
	// Firmware is the release's own; nil leaves it to the provider.
	Firmware *Firmware
	// SecureBoot are the keys by which the release's machines are to have Secure
	// Boot on, for a provider that starts them with a cloud's firmware; empty
	// where the release has none, or a firmware of its own that has them.
	SecureBoot []Key
}

// Key is one of Secure Boot's variables, PK, KEK, db or dbx: a file of
// EFI_SIGNATURE_LISTs (UEFI specification, section 32.4.1).
type Key struct {
	Name string
	File
}

// Firmware is what a release's machines start with. A machine keeps the one of
// the release that it was made from.
type Firmware struct {
	Code File
	// Variables are the firmware's variables as a new machine has them.
	Variables File
	// SecureBoot says that the firmware has it on, and so needs a machine on
	// which nothing but the firmware writes its variables.
	SecureBoot bool
	// Shapes are the machines that the release knows the registers of: with
	// this firmware no others are made.
	Shapes []board.Shape
}

// File is a file readable by the plugin, with what it must hold.
type File struct {
	Path   string
	SHA256 attest.Digest
	Bytes  int64
}

// Spec is what a machine is made from.
type Spec struct {
	Release attest.ReleaseDigest
	Region  string
	Size    string
	// DataBytes is the size of the data disk.
	DataBytes int64
	// Config is what the machine reads of itself (agent/api.EncodeDrive),
	// handed over byte for byte by the provider's own channel. It holds the
	// enrolment token: never log it.
	Config []byte
}

// Hash is the SHA-256 over every field, each length-prefixed.
func (s Spec) Hash() attest.Digest {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(s.DataBytes))
	for _, field := range [][]byte{s.Release[:], []byte(s.Region), []byte(s.Size), n[:], s.Config} {
		var l [4]byte
		binary.BigEndian.PutUint32(l[:], uint32(len(field)))
		h.Write(l[:])
		h.Write(field)
	}
	return attest.Digest(h.Sum(nil))
}

// CreateRequest asks for one machine.
type CreateRequest struct {
	Installation InstallationID
	Machine      MachineID
	// Generation is that of what is desired; it is no part of the spec.
	Generation uint64
	Spec       Spec
}

// Change is what is desired of a machine that is there.
type Change struct {
	Machine    MachineID
	Generation uint64
	// DataBytes is the size of the data disk, which only grows; 0 leaves it.
	DataBytes int64
}

// Power is what a machine does as the provider sees it.
type Power string

// The power states. PowerCrashed is off without having been asked to be.
const (
	PowerOn      Power = "on"
	PowerOff     Power = "off"
	PowerPending Power = "pending"
	PowerCrashed Power = "crashed"
)

// Machine is a machine as observed.
type Machine struct {
	ID           MachineID
	Installation InstallationID
	SpecHash     attest.Digest
	Release      attest.ReleaseDigest
	// Generation is the last one that was applied.
	Generation uint64
	// Region and Size are where and as what it was made.
	Region string
	Size   string
	Power  Power
	// Endpoint is the host:port at which clients reach the machine's one
	// port; empty while there is none.
	Endpoint  string
	Resources []Resource
	CreatedAt time.Time
	// Reason explains a state that is not what was asked for.
	Reason string
	// Drift says what somebody else has changed about it, such as a tag that
	// is gone, and Apply mends; empty where nothing is.
	Drift string
}

// ResourceKind is what a resource is.
type ResourceKind string

// The kinds of resource.
const (
	ResourceMachine  ResourceKind = "machine"
	ResourceDisk     ResourceKind = "disk"
	ResourceDataDisk ResourceKind = "data-disk"
	ResourceNIC      ResourceKind = "nic"
	ResourceAddress  ResourceKind = "address"
	ResourceProcess  ResourceKind = "process"
	ResourceSnapshot ResourceKind = "snapshot"
)

// Resource is anything that costs or can leak.
type Resource struct {
	Kind ResourceKind
	// ID is the provider's own name for it.
	ID string
	// Machine is whose it is; empty for a leftover whose owner is not known.
	Machine MachineID
	Bytes   int64
}

// Page is one page of List. Next is empty on the last one.
type Page struct {
	Resources []Resource
	Next      string
}
