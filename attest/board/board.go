// Package board describes the virtual machine that a release's firmware runs
// on, as far as it shows in registers 0 and 1: what the firmware measures of
// itself, of the ACPI tables that QEMU hands over, and of its boot variables.
//
// Invariants: nothing stands on the board but what Args names, each part in a
// fixed place, of a machine type whose tables QEMU keeps; so two machines of
// one shape show the same registers, whatever is behind their parts. Whoever
// measures a board and whoever makes one take it from here
// (docs/decisions/0013).
package board

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The ids that Args expects: drives, a network, a source of randomness, a TPM
// and the character device that the serial port leads to.
const (
	SystemDrive = "system"
	DataDrive   = "data"
	ConfigDrive = "config"
	Network     = "net"
	Randomness  = "rng"
	TPM         = "tpm"
	Console     = "console"
)

// ErrShape says that a shape cannot be had or read.
var ErrShape = errors.New("no such shape of machine")

// The bounds of a shape. Memory is counted in MiB, as QEMU takes it.
const (
	mebibyte       = 1 << 20
	MinMemoryBytes = 128 * mebibyte
	MaxMemoryBytes = 32 << 30
	MaxVCPUs       = 64
)

// Shape is what may differ from board to board.
type Shape struct {
	VCPUs int `json:"vcpus"`
	// MemoryBytes is a multiple of 1 MiB.
	MemoryBytes int64 `json:"memory_bytes"`
}

// Check refuses a shape that no board has. The error matches ErrShape.
func (s Shape) Check() error {
	switch {
	case s.VCPUs < 1 || s.VCPUs > MaxVCPUs:
		return fmt.Errorf("%w: vcpus is %d, want 1 to %d", ErrShape, s.VCPUs, MaxVCPUs)
	case s.MemoryBytes < MinMemoryBytes || s.MemoryBytes > MaxMemoryBytes || s.MemoryBytes%mebibyte != 0:
		return fmt.Errorf("%w: memory_bytes is %d, want a multiple of %d from %d to %d",
			ErrShape, s.MemoryBytes, int64(mebibyte), int64(MinMemoryBytes), int64(MaxMemoryBytes))
	}
	return nil
}

// Compare orders shapes by their processors, then by their memory.
func (s Shape) Compare(other Shape) int {
	return cmp.Or(cmp.Compare(s.VCPUs, other.VCPUs), cmp.Compare(s.MemoryBytes, other.MemoryBytes))
}

// String is what ParseShape reads, such as "2x512MiB".
func (s Shape) String() string { return fmt.Sprintf("%dx%dMiB", s.VCPUs, s.MemoryBytes/mebibyte) }

// ParseShape reads "VCPUSxMEMORYMiB". Errors match ErrShape.
func ParseShape(text string) (Shape, error) {
	vcpus, memory, _ := strings.Cut(text, "x")
	v, err := strconv.ParseUint(vcpus, 10, 16)
	memory, unit := strings.CutSuffix(memory, "MiB")
	m, memoryErr := strconv.ParseUint(memory, 10, 32)
	if err != nil || memoryErr != nil || !unit {
		return Shape{}, fmt.Errorf("%w: %.40q is not like 2x512MiB", ErrShape, text)
	}
	s := Shape{VCPUs: int(v), MemoryBytes: int64(m) * mebibyte}
	return s, s.Check()
}
