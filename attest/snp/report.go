// Package snp parses and verifies AMD SEV-SNP attestation reports and the
// certificates that endorse their keys. It decides whether a report is genuine
// and never whether it is good: that is package verifier.
//
// Invariants: a report is parsed as its version lays it out, and what the
// version reserves is zero; no table of processors stands between a genuine
// report and its acceptance; a VCEK and a VLEK are told apart by the report and by
// the certificate, and both must agree.
package snp

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// ReportSize is an attestation report's size in bytes (AMD 56860, table
// ATTESTATION_REPORT).
const ReportSize = 0x4a0

// The parts of a report, in bytes.
const (
	signedSize    = 0x2a0
	componentSize = 72
	signatureEnd  = signedSize + 2*componentSize
)

// The versions of the report that are known.
const (
	// MinVersion is the first that firmware for customers issues.
	MinVersion = 2
	// MaxVersion is of firmware that has mitigation vectors.
	MaxVersion = 5

	versionCPUID       = 3 // adds family, model and stepping
	versionMitigations = 4 // firmware that fills the vectors reports 4 already; the specification has them in 5
)

// ecdsaP384SHA384 is the one signature algorithm (AMD 56860, chapter
// "Signature algorithms").
const ecdsaP384SHA384 = 1

// Signer is the key that a report says it is signed with.
type Signer uint8

// The signers (AMD 56860, SIGNING_KEY). Other values are refused.
const (
	// VCEK is the key of one chip at one level of its firmware.
	VCEK Signer = 0
	// VLEK is a key that AMD made for a cloud provider and its firmware level.
	VLEK Signer = 1
	// Unsigned is what the host gets when it masks the chip's key.
	Unsigned Signer = 7
)

func (s Signer) String() string {
	switch s {
	case VCEK:
		return "VCEK"
	case VLEK:
		return "VLEK"
	case Unsigned:
		return "unsigned"
	default:
		return fmt.Sprintf("signer(%d)", uint8(s))
	}
}

// CPUID is the processor as the report names it: combined family and model as
// CPUID function 1 gives them, and stepping.
type CPUID struct{ Family, Model, Stepping uint8 }

// Version is the version of the SNP firmware.
type Version struct{ Major, Minor, Build uint8 }

// Report is a parsed report. It is a claim of the firmware's only after
// Endorsement.Check.
type Report struct {
	Version  uint32
	GuestSVN uint32
	Policy   GuestPolicy
	// FamilyID, ImageID, IDKeyDigest and AuthorKeyDigest are from the ID block
	// at launch; zero without one.
	FamilyID, ImageID [16]byte
	// VMPL is the privilege level that asked, 0 the highest of 4, or 2^32-1
	// for a report that the host asked for.
	VMPL         uint32
	CurrentTCB   RawTCB
	PlatformInfo PlatformInfo
	// AuthorKey says that AuthorKeyDigest is of a key that signed the ID key.
	AuthorKey bool
	// MaskChipKey says that the host has the chip's key masked.
	MaskChipKey bool
	Signer      Signer
	// ReportData is what the guest asked to have signed: the guest's own choice.
	ReportData  [64]byte
	Measurement [48]byte
	// HostData is the host's own choice at launch.
	HostData                     [32]byte
	IDKeyDigest, AuthorKeyDigest [48]byte
	// ReportID names the guest for its lifetime, ReportIDMA its migration
	// agent, all ones without one.
	ReportID, ReportIDMA [32]byte
	// ReportedTCB is the level that the signing key was derived for.
	ReportedTCB RawTCB
	// CPUID is nil below version 3.
	CPUID *CPUID
	// ChipID is zero where the host masks it; from Turin on its first 8 bytes
	// count.
	ChipID             [64]byte
	CommittedTCB       RawTCB
	Current, Committed Version
	// LaunchTCB is the current TCB when the guest was launched or imported.
	LaunchTCB RawTCB
	// LaunchMitigations and CurrentMitigations are bit vectors whose meaning
	// depends on the processor; zero below version 4.
	LaunchMitigations, CurrentMitigations uint64

	raw [ReportSize]byte
}

// ChipMasked reports whether the host hides which chip this is.
func (r *Report) ChipMasked() bool { return r.ChipID == [64]byte{} }

// Raw is a copy of the report's bytes.
func (r *Report) Raw() []byte { return bytes.Clone(r.raw[:]) }

// Parse reads a report: exactly ReportSize bytes of a version from MinVersion
// to MaxVersion, little-endian (AMD 56860, ATTESTATION_REPORT). The error is
// attest.ErrMalformed.
func Parse(raw []byte) (*Report, error) {
	if len(raw) != ReportSize {
		return nil, malformed("has %d bytes, want %d", len(raw), ReportSize)
	}
	r := &Report{raw: [ReportSize]byte(raw)}
	r.Version = u32(raw, 0)
	if r.Version < MinVersion || r.Version > MaxVersion {
		return nil, malformed("has version %d, want %d to %d", r.Version, MinVersion, MaxVersion)
	}
	if err := r.checkReserved(); err != nil {
		return nil, err
	}
	if err := r.readSigner(u32(raw, 0x48)); err != nil {
		return nil, err
	}
	r.readGuest()
	r.readPlatform()
	return r, r.Policy.check()
}

func (r *Report) readGuest() {
	b := r.raw[:]
	r.GuestSVN = u32(b, 0x4)
	r.Policy = GuestPolicy(u64(b, 0x8))
	copy(r.FamilyID[:], b[0x10:])
	copy(r.ImageID[:], b[0x20:])
	r.VMPL = u32(b, 0x30)
	copy(r.ReportData[:], b[0x50:])
	copy(r.Measurement[:], b[0x90:])
	copy(r.HostData[:], b[0xc0:])
	copy(r.IDKeyDigest[:], b[0xe0:])
	copy(r.AuthorKeyDigest[:], b[0x110:])
	copy(r.ReportID[:], b[0x140:])
	copy(r.ReportIDMA[:], b[0x160:])
}

func (r *Report) readPlatform() {
	b := r.raw[:]
	r.CurrentTCB = RawTCB(u64(b, 0x38))
	r.PlatformInfo = PlatformInfo(u64(b, 0x40))
	r.ReportedTCB = RawTCB(u64(b, 0x180))
	if r.Version >= versionCPUID {
		r.CPUID = &CPUID{Family: b[0x188], Model: b[0x189], Stepping: b[0x18a]}
	}
	copy(r.ChipID[:], b[0x1a0:])
	r.CommittedTCB = RawTCB(u64(b, 0x1e0))
	r.Current = Version{Build: b[0x1e8], Minor: b[0x1e9], Major: b[0x1ea]}
	r.Committed = Version{Build: b[0x1ec], Minor: b[0x1ed], Major: b[0x1ee]}
	r.LaunchTCB = RawTCB(u64(b, 0x1f0))
	r.LaunchMitigations, r.CurrentMitigations = u64(b, 0x1f8), u64(b, 0x200)
}

// readSigner reads the word of flags: the author key's, the masked chip key's
// and three bits of SIGNING_KEY.
func (r *Report) readSigner(flags uint32) error {
	const known = 0x1f
	if flags&^known != 0 {
		return malformed("has reserved signer flags %#x", flags)
	}
	r.AuthorKey, r.MaskChipKey, r.Signer = flags&1 != 0, flags&2 != 0, Signer(flags>>2)
	if r.Signer != VCEK && r.Signer != VLEK && r.Signer != Unsigned {
		return malformed("has unknown SIGNING_KEY %d", r.Signer)
	}
	if algorithm := u32(r.raw[:], 0x34); algorithm != ecdsaP384SHA384 {
		return malformed("has unknown SIGNATURE_ALGO %d", algorithm)
	}
	return nil
}

func (r *Report) checkReserved() error {
	processor, vectors := 0x188, 0x1f8
	if r.Version >= versionCPUID {
		processor = 0x18b
	}
	if r.Version >= versionMitigations {
		vectors = 0x208
	}
	for _, span := range [...][2]int{
		{0x4c, 0x50}, {processor, 0x1a0}, {0x1eb, 0x1ec}, {0x1ef, 0x1f0}, {vectors, signedSize}, {signatureEnd, ReportSize},
	} {
		if !zero(r.raw[span[0]:span[1]]) {
			return malformed("has something in the reserved bytes %#x to %#x", span[0], span[1])
		}
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: snp report %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

func u32(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func u64(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
