package snp

import (
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// RawTCB is a TCB_VERSION as the report has it. Which byte is whose depends on the
// product line, which the endorsement tells.
type RawTCB uint64

// Layout is how a product line lays out TCB_VERSION, the chip's id and the
// extensions of a certificate.
type Layout uint8

// The layouts. The zero value is none.
const (
	// LayoutMilan is that of Milan, Genoa and their variants: chip ids of 64
	// bytes, no FMC.
	LayoutMilan Layout = iota + 1
	// LayoutTurin is that of Turin: chip ids of 8 bytes, and an FMC (AMD
	// 56860, TCB_VERSION; 57230, table of the VCEK's extensions).
	LayoutTurin
)

// chipID is the number of bytes of a chip's id that count.
func (l Layout) chipID() int {
	if l == LayoutTurin {
		return 8
	}
	return 64
}

// TCB is the security version of each part of the platform's firmware. FMC is
// zero where the layout has none.
type TCB struct{ FMC, Bootloader, TEE, SNP, Microcode uint8 }

func (t TCB) String() string {
	return fmt.Sprintf("fmc %d, bootloader %d, tee %d, snp %d, microcode %d", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// Below names the parts of t that are lower than in floor.
func (t TCB) Below(floor TCB) []string {
	var below []string
	for _, part := range [...]struct {
		name        string
		have, least uint8
	}{
		{"fmc", t.FMC, floor.FMC},
		{"bootloader", t.Bootloader, floor.Bootloader},
		{"tee", t.TEE, floor.TEE},
		{"snp", t.SNP, floor.SNP},
		{"microcode", t.Microcode, floor.Microcode},
	} {
		if part.have < part.least {
			below = append(below, fmt.Sprintf("%s %d below %d", part.name, part.have, part.least))
		}
	}
	return below
}

// Decode reads raw in the given layout. The bytes that it reserves must be
// zero; the error is attest.ErrMalformed.
func (raw RawTCB) Decode(l Layout) (TCB, error) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(raw))
	var t TCB
	var reserved []byte
	switch l {
	case LayoutMilan:
		t, reserved = TCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}, b[2:6]
	case LayoutTurin:
		t, reserved = TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}, b[4:7]
	default:
		return TCB{}, fmt.Errorf("%w: layout of tcb versions is unset", attest.ErrPolicy)
	}
	if !zero(reserved) {
		return TCB{}, malformed("has tcb version %#x with something in reserved bytes", uint64(raw))
	}
	return t, nil
}
