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

// machine is versioned: QEMU keeps what a guest sees of one.
const machine = "pc-q35-7.2"

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

// Model is the kind of board that a firmware is for.
type Model struct {
	// SecureBoot has a system management mode, in which alone the flash with
	// the firmware's variables can be written: whoever runs in the machine
	// changes keys by the firmware's leave only.
	SecureBoot bool
}

// flash are the arguments that decide who writes the firmware's variables.
func (m Model) flash() (machineOption string, arguments []string) {
	if m.SecureBoot {
		return "smm=on", []string{"-global", "driver=cfi.pflash01,property=secure,value=on"}
	}
	return "smm=off", nil
}

// Args are QEMU's arguments for the board. The caller adds the accelerator
// with its CPU, the firmware in flash units 0 and 1, and what stands behind the ids
// above.
func (m Model) Args(s Shape) []string {
	device := func(slot int, name, options string) string {
		return fmt.Sprintf("%s,addr=%#x,%s", name, slot, options)
	}
	smm, flash := m.flash()
	return append([]string{
		"-machine", machine + "," + smm + ",vmport=off",
		"-m", strconv.FormatInt(s.MemoryBytes/mebibyte, 10),
		"-smp", strconv.Itoa(s.VCPUs),
		"-nodefaults", "-no-user-config", "-display", "none",
		"-boot", "menu=off,splash-time=0",
		"-device", device(1, "virtio-blk-pci", "drive="+SystemDrive+",serial=shed-system,bootindex=1"),
		"-device", device(2, "virtio-blk-pci", "drive="+DataDrive+",serial=shed-data"),
		"-device", device(3, "virtio-blk-pci", "drive="+ConfigDrive+",serial=shed-config"),
		// An option ROM would run before the release and show in register 2.
		"-device", device(4, "virtio-net-pci", "netdev="+Network+",romfile="),
		"-device", device(5, "virtio-rng-pci", "rng="+Randomness),
		"-device", "tpm-crb,tpmdev=" + TPM,
		"-serial", "chardev:" + Console,
	}, flash...)
}

// addressBits is the width of addresses that a guest is told, whoever made the
// host's processor: the firmware places its windows for devices by it, and the
// ACPI tables name them. It bounds MaxMemoryBytes.
const addressBits = ",phys-bits=36"

// Emulated are QEMU's arguments to emulate the processor: the oldest model with
// AES, since newer ones have more to emulate and boot a sixth slower.
func Emulated() []string {
	return []string{"-accel", "tcg,thread=multi", "-cpu", "Westmere,+rdrand" + addressBits}
}

// Virtualised are QEMU's arguments to run on the host's processor.
func Virtualised() []string {
	return []string{"-accel", "kvm", "-cpu", "host,host-phys-bits=off" + addressBits}
}
