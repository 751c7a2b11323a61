package board

import (
	"fmt"
	"strconv"
)

// The architectures that there are boards of, by Go's names.
const (
	AMD64 = "amd64"
	ARM64 = "arm64"
)

// Machine types are versioned: QEMU keeps what a guest sees of one.
const (
	machineAMD64 = "pc-q35-7.2"
	machineARM64 = "virt-7.2"
)

// Model is the kind of board that a firmware is for.
type Model struct {
	// Architecture is AMD64 or ARM64; empty is AMD64.
	Architecture string
	// SecureBoot has, on AMD64, a system management mode, in which alone the
	// flash with the firmware's variables can be written: whoever runs in the
	// machine changes keys by the firmware's leave only. QEMU's ARM64 board has
	// no such mode.
	SecureBoot bool
}

// IsARM64 tells the two architectures apart.
func (m Model) IsARM64() bool { return m.Architecture == ARM64 }

// Program is QEMU's for the architecture, and debian the package that has it.
func (m Model) Program() (name, debian string) {
	if m.IsARM64() {
		return "qemu-system-aarch64", "qemu-system-arm"
	}
	return "qemu-system-x86_64", "qemu-system-x86"
}

// Args are QEMU's arguments for the board. The caller adds the accelerator
// with its CPU, the firmware in flash units 0 and 1, and what stands behind the ids
// of this package.
func (m Model) Args(s Shape) []string {
	device := func(slot int, name, options string) string {
		return fmt.Sprintf("%s,addr=%#x,%s", name, slot, options)
	}
	args := append(m.own(),
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
	)
	tpm := "tpm-crb"
	if m.IsARM64() {
		tpm = "tpm-tis-device"
	}
	return append(args, "-device", tpm+",tpmdev="+TPM, "-serial", "chardev:"+Console)
}

// own is what a board of the model has of its own.
func (m Model) own() []string {
	switch {
	case m.IsARM64():
		return []string{"-machine", machineARM64 + ",gic-version=3"}
	case m.SecureBoot:
		return []string{"-machine", machineAMD64 + ",smm=on,vmport=off", "-global", "driver=cfi.pflash01,property=secure,value=on"}
	}
	return []string{"-machine", machineAMD64 + ",smm=off,vmport=off"}
}

// addressBits is the width of addresses that a guest is told, whoever made the
// host's processor: the firmware places its windows for devices by it, and the
// ACPI tables name them. It bounds MaxMemoryBytes.
const addressBits = ",phys-bits=36"

// Emulated are QEMU's arguments to emulate the processor: on AMD64 the oldest
// model with AES, since newer ones have more to emulate and boot a sixth slower.
func (m Model) Emulated() []string {
	if m.IsARM64() {
		return []string{"-accel", "tcg,thread=multi", "-cpu", "cortex-a72"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "Westmere,+rdrand" + addressBits}
}

// Virtualised are QEMU's arguments to run on the host's processor.
func (m Model) Virtualised() []string {
	if m.IsARM64() {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "kvm", "-cpu", "host,host-phys-bits=off" + addressBits}
}
