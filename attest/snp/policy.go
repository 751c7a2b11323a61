package snp

import (
	"fmt"
	"math/bits"
	"strings"
)

// GuestPolicy is what the guest's owner asked of the firmware at launch (AMD
// 56860, chapter "Guest policy").
type GuestPolicy uint64

// The bits of a guest policy. The first four permit something, the others
// demand it.
const (
	PolicySMT             GuestPolicy = 1 << 16
	PolicyMigrationAgent  GuestPolicy = 1 << 18
	PolicyDebug           GuestPolicy = 1 << 19
	PolicyCXL             GuestPolicy = 1 << 21
	PolicySingleSocket    GuestPolicy = 1 << 20
	PolicyAES256XTS       GuestPolicy = 1 << 22
	PolicyRAPLDisabled    GuestPolicy = 1 << 23
	PolicyHidesCiphertext GuestPolicy = 1 << 24
	PolicyNoPageSwap      GuestPolicy = 1 << 25

	// PolicyPermissive are the bits that permit, PolicyDemands those that
	// demand.
	PolicyPermissive = PolicySMT | PolicyMigrationAgent | PolicyDebug | PolicyCXL
	PolicyDemands    = PolicySingleSocket | PolicyAES256XTS | PolicyRAPLDisabled | PolicyHidesCiphertext | PolicyNoPageSwap

	policyABI       GuestPolicy = 0xffff
	policyAlwaysOne GuestPolicy = 1 << 17
)

var policyNames = names[GuestPolicy]{
	{PolicySMT, "smt"},
	{PolicyMigrationAgent, "migration agent"},
	{PolicyDebug, "debug"},
	{PolicyCXL, "cxl"},
	{PolicySingleSocket, "single socket"},
	{PolicyAES256XTS, "aes-256-xts"},
	{PolicyRAPLDisabled, "rapl disabled"},
	{PolicyHidesCiphertext, "ciphertext hiding"},
	{PolicyNoPageSwap, "no page swap"},
}

// MinimumABI is the firmware ABI, major and minor, below which the guest does
// not run.
func (p GuestPolicy) MinimumABI() (major, minor uint8) { return uint8(p >> 8), uint8(p) }

// String lists the bits that are set.
func (p GuestPolicy) String() string { return policyNames.of(p &^ (policyABI | policyAlwaysOne)) }

func (p GuestPolicy) check() error {
	if p&policyAlwaysOne == 0 {
		return malformed("has 0 in POLICY bit 17, which is always 1")
	}
	if unknown := p &^ (policyABI | policyAlwaysOne | PolicyPermissive | PolicyDemands); unknown != 0 {
		return malformed("has unknown POLICY bits %#x", uint64(unknown))
	}
	return nil
}

// PlatformInfo is how the host runs (AMD 56860, PLATFORM_INFO). Bits that are
// not named here are new firmware's and claim nothing.
type PlatformInfo uint64

// The bits of PlatformInfo that are known.
const (
	PlatformSMT             PlatformInfo = 1 << 0
	PlatformTSME            PlatformInfo = 1 << 1
	PlatformECC             PlatformInfo = 1 << 2
	PlatformRAPLDisabled    PlatformInfo = 1 << 3
	PlatformHidesCiphertext PlatformInfo = 1 << 4
	PlatformAliasCheckOK    PlatformInfo = 1 << 5
	PlatformTIO             PlatformInfo = 1 << 7
	platformKnown                        = PlatformSMT | PlatformTSME | PlatformECC | PlatformRAPLDisabled | PlatformHidesCiphertext | PlatformAliasCheckOK | PlatformTIO
)

var platformNames = names[PlatformInfo]{
	{PlatformSMT, "smt"},
	{PlatformTSME, "tsme"},
	{PlatformECC, "ecc"},
	{PlatformRAPLDisabled, "rapl disabled"},
	{PlatformHidesCiphertext, "ciphertext hiding"},
	{PlatformAliasCheckOK, "alias check"},
	{PlatformTIO, "tio"},
}

// Unknown are the bits that have no name here.
func (p PlatformInfo) Unknown() PlatformInfo { return p &^ platformKnown }

// String lists the bits that are set.
func (p PlatformInfo) String() string { return platformNames.of(p) }

type names[T ~uint64] []struct {
	bit  T
	name string
}

func (n names[T]) of(set T) string {
	var out []string
	for _, known := range n {
		if set&known.bit != 0 {
			out = append(out, known.name)
			set &^= known.bit
		}
	}
	for ; set != 0; set &= set - 1 {
		out = append(out, fmt.Sprintf("bit %d", bits.TrailingZeros64(uint64(set))))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}
