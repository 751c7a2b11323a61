package qemu

import (
	_ "embed"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/tap"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// schema is the JSON Schema of Settings.
//
//go:embed settings.schema.json
var schema []byte

const (
	maxGrace = 10 * time.Minute
	// maxSocketPath is what sockaddr_un holds, less its terminating zero.
	maxSocketPath = 107
)

// accelerator says how QEMU runs a guest's instructions.
type accelerator string

const (
	accelAuto accelerator = "auto"
	accelKVM  accelerator = "kvm"
	accelTCG  accelerator = "tcg"
)

// settings is what Configure takes.
type settings struct {
	// StateDir is this provider's own directory.
	StateDir string `json:"state_dir"`
	// RuntimeDir holds the monitors' sockets, so its path must be short.
	RuntimeDir  string       `json:"runtime_dir"`
	MemoryBytes int64        `json:"memory_bytes"`
	VCPUs       int          `json:"vcpus"`
	Accel       accelerator  `json:"accel"`
	Grace       sdk.Duration `json:"grace"`
	// PortFirst to PortLast are the ports on loopback that machines are
	// reached at.
	PortFirst int `json:"port_first"`
	PortLast  int `json:"port_last"`
	// DataLimitBytes bounds the data disks of all machines together, kept ones
	// and snapshots too, by what they can grow to; 0 for no bound.
	DataLimitBytes int64 `json:"data_limit_bytes"`
	// MachineLimit bounds how many machines there are; 0 for no bound.
	MachineLimit int `json:"machine_limit"`
	// Network is where machines made from now on get an address of; nil for
	// QEMU's own network, and a port on loopback.
	Network *tap.Network `json:"network"`
	// Limits bound the processes of machines that are started from now on; nil
	// for no bounds.
	Limits *limits `json:"limits"`
}

func parseSettings(b []byte) (settings, error) {
	s := settings{
		MemoryBytes: 1 << 30,
		VCPUs:       2,
		Accel:       accelAuto,
		Grace:       sdk.Duration(10 * time.Second),
		PortFirst:   20000,
		PortLast:    29999,
	}
	if err := sdk.Settings(b, &s); err != nil {
		return s, err
	}
	if err := s.check(); err != nil {
		return s, providers.Errorf(providers.CodeInvalid, "settings: %s", err)
	}
	return s, nil
}

// shape is that of machines made from now on.
func (s settings) shape() board.Shape {
	return board.Shape{VCPUs: s.VCPUs, MemoryBytes: s.MemoryBytes}
}

func (s settings) check() error {
	longest := len(filepath.Join(s.RuntimeDir, socketName(machineIDExample)))
	switch {
	case !filepath.IsAbs(s.StateDir):
		return fmt.Errorf("state_dir %q is not an absolute path", s.StateDir)
	case !filepath.IsAbs(s.RuntimeDir):
		return fmt.Errorf("runtime_dir %q is not an absolute path", s.RuntimeDir)
	case !plainPath(s.StateDir):
		return fmt.Errorf("state_dir %q holds a control character or one of %s", s.StateDir, special)
	case !plainPath(s.RuntimeDir):
		return fmt.Errorf("runtime_dir %q holds a control character or one of %s", s.RuntimeDir, special)
	case longest > maxSocketPath:
		return fmt.Errorf("runtime_dir is too long: a socket's path there has %d characters, at most %d", longest, maxSocketPath)
	case s.shape().Check() != nil:
		return s.shape().Check()
	case s.Accel != accelAuto && s.Accel != accelKVM && s.Accel != accelTCG:
		return fmt.Errorf("accel is %q, want auto, kvm or tcg", s.Accel)
	case s.Grace < 0 || time.Duration(s.Grace) > maxGrace:
		return fmt.Errorf("grace is %s, want 0s to %s", time.Duration(s.Grace), maxGrace)
	case s.DataLimitBytes < 0:
		return fmt.Errorf("data_limit_bytes is %d", s.DataLimitBytes)
	case s.MachineLimit < 0:
		return fmt.Errorf("machine_limit is %d", s.MachineLimit)
	case s.Network != nil && s.Network.Check() != nil:
		return s.Network.Check()
	case s.Limits != nil && s.Limits.check() != nil:
		return s.Limits.check()
	case s.PortFirst < 1024 || s.PortLast > 65535 || s.PortFirst > s.PortLast:
		return fmt.Errorf("port_first to port_last is %d to %d, want a range within 1024 to 65535", s.PortFirst, s.PortLast)
	}
	return nil
}

// special are characters that mean something in QEMU's and swtpm's options, or
// in the configuration files of swtpm_setup.
const special = ",#$~"

// plainPath reports whether a path can stand there as it is.
func plainPath(path string) bool {
	return !strings.ContainsAny(path, special) && !strings.ContainsFunc(path, unicode.IsControl)
}
