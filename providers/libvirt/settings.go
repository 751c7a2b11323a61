package libvirt

import (
	_ "embed"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"time"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// schema is the JSON Schema of settings.
//
//go:embed settings.schema.json
var schema []byte

// The bounds of the settings.
const (
	maxHosts      = 256
	maxSizes      = 64
	maxGrace      = 10 * time.Minute
	maxOvercommit = 64
)

// settings is what Configure takes.
type settings struct {
	Hosts []hostSettings `json:"hosts"`
	Sizes []sizeSettings `json:"sizes"`
	Grace sdk.Duration   `json:"grace"`
	// PortFirst to PortLast are the ports of each host at which machines with
	// user-mode networking are reached.
	PortFirst int `json:"port_first"`
	PortLast  int `json:"port_last"`
	// MemoryReserveBytes is what of a host's memory is not given to machines.
	MemoryReserveBytes int64 `json:"memory_reserve_bytes"`
	// CPUOvercommit is how many virtual processors share one of a host's.
	CPUOvercommit int `json:"cpu_overcommit"`
}

// hostSettings are one host's. They are comparable: a host whose settings are
// the same keeps its connection.
type hostSettings struct {
	Name              string `json:"name"`
	URI               string `json:"uri"`
	Pool              string `json:"pool"`
	FilesPool         string `json:"files_pool"`
	Network           string `json:"network"`
	Address           string `json:"address"`
	Accel             string `json:"accel"`
	Firmware          string `json:"firmware"`
	FirmwareVariables string `json:"firmware_variables"`
	Drained           bool   `json:"drained"`
}

type sizeSettings struct {
	Name        string `json:"name"`
	VCPUs       int    `json:"vcpus"`
	MemoryBytes int64  `json:"memory_bytes"`
}

func (s sizeSettings) shape() board.Shape {
	return board.Shape{VCPUs: s.VCPUs, MemoryBytes: s.MemoryBytes}
}

// The ways a guest runs.
const (
	accelKVM = "kvm"
	accelTCG = "tcg"
)

func parseSettings(raw []byte) (settings, error) {
	s := settings{
		Grace:              sdk.Duration(10 * time.Second),
		PortFirst:          30000,
		PortLast:           39999,
		MemoryReserveBytes: 1 << 30,
		CPUOvercommit:      4,
	}
	if err := sdk.Settings(raw, &s); err != nil {
		return s, err
	}
	if s.Sizes == nil {
		s.Sizes = []sizeSettings{{Name: "standard", VCPUs: 2, MemoryBytes: 1 << 30}}
	}
	for i := range s.Hosts {
		s.Hosts[i].fill()
	}
	if err := s.check(); err != nil {
		return s, providers.Errorf(providers.CodeInvalid, "settings: %s", err)
	}
	return s, nil
}

// fill puts in what was left out.
func (h *hostSettings) fill() {
	for _, field := range []struct {
		value    *string
		fallback string
	}{
		{&h.FilesPool, h.Pool},
		{&h.Address, "127.0.0.1"},
		{&h.Accel, accelKVM},
		{&h.Firmware, "/usr/share/OVMF/OVMF_CODE_4M.fd"},
		{&h.FirmwareVariables, "/usr/share/OVMF/OVMF_VARS_4M.fd"},
	} {
		if *field.value == "" {
			*field.value = field.fallback
		}
	}
}

func (s settings) check() error {
	switch {
	case len(s.Hosts) == 0 || len(s.Hosts) > maxHosts:
		return fmt.Errorf("hosts has %d entries, want 1 to %d", len(s.Hosts), maxHosts)
	case len(s.Sizes) == 0 || len(s.Sizes) > maxSizes:
		return fmt.Errorf("sizes has %d entries, want 1 to %d", len(s.Sizes), maxSizes)
	case s.Grace < 0 || time.Duration(s.Grace) > maxGrace:
		return fmt.Errorf("grace is %s, want 0s to %s", time.Duration(s.Grace), maxGrace)
	case s.PortFirst < 1024 || s.PortLast > 65535 || s.PortFirst > s.PortLast:
		return fmt.Errorf("port_first to port_last is %d to %d, want a range within 1024 to 65535", s.PortFirst, s.PortLast)
	case s.MemoryReserveBytes < 0:
		return fmt.Errorf("memory_reserve_bytes is %d", s.MemoryReserveBytes)
	case s.CPUOvercommit < 1 || s.CPUOvercommit > maxOvercommit:
		return fmt.Errorf("cpu_overcommit is %d, want 1 to %d", s.CPUOvercommit, maxOvercommit)
	}
	names := map[string]bool{}
	for i, h := range s.Hosts {
		if err := h.check(); err != nil {
			return fmt.Errorf("hosts[%d]: %w", i, err)
		}
		if names[h.Name] {
			return fmt.Errorf("hosts[%d]: name %q is there twice", i, h.Name)
		}
		names[h.Name] = true
	}
	clear(names)
	for i, size := range s.Sizes {
		if !validName.MatchString(size.Name) || names[size.Name] {
			return fmt.Errorf("sizes[%d]: name %q is there twice, or not lowercase letters, digits and hyphens", i, size.Name)
		}
		names[size.Name] = true
		if err := size.shape().Check(); err != nil {
			return fmt.Errorf("sizes[%d]: %w", i, err)
		}
	}
	return nil
}

var (
	validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)
	// validPool is what names of pools and networks look like.
	validPool = regexp.MustCompile(`^[A-Za-z0-9._+-]{1,64}$`)
)

func (h hostSettings) check() error {
	address, addressErr := netip.ParseAddr(h.Address)
	switch {
	case !validName.MatchString(h.Name):
		return fmt.Errorf("name %q is not lowercase letters, digits and hyphens", h.Name)
	case !validPool.MatchString(h.Pool):
		return fmt.Errorf("pool %q is no name of a storage pool", h.Pool)
	case !validPool.MatchString(h.FilesPool):
		return fmt.Errorf("files_pool %q is no name of a storage pool", h.FilesPool)
	case h.Network != "" && !validPool.MatchString(h.Network):
		return fmt.Errorf("network %q is no name of a network", h.Network)
	case addressErr != nil || !address.Is4() || address.IsUnspecified():
		return fmt.Errorf("address %q is no IPv4 address of the host", h.Address)
	case h.Accel != accelKVM && h.Accel != accelTCG:
		return fmt.Errorf("accel is %q, want kvm or tcg", h.Accel)
	case !filepath.IsAbs(h.Firmware):
		return fmt.Errorf("firmware %q is not an absolute path", h.Firmware)
	case !filepath.IsAbs(h.FirmwareVariables):
		return fmt.Errorf("firmware_variables %q is not an absolute path", h.FirmwareVariables)
	}
	_, err := dialer(h.URI)
	return err
}
