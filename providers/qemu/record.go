package qemu

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

const (
	recordVersion  = 1
	maxRecordBytes = 64 << 10
)

const machineIDExample = providers.MachineID("aaaaaaaaaaaaaaaaaaaaaaaaaa")

// record is a machine as its directory holds it. It is written before anything
// is done that it speaks of, so that whatever a crash leaves is known.
type record struct {
	Version      int                      `json:"version"`
	Machine      providers.MachineID      `json:"machine"`
	Installation providers.InstallationID `json:"installation"`
	// Generation is the last one that was applied.
	Generation  uint64               `json:"generation,omitempty"`
	SpecHash    attest.Digest        `json:"spec_hash"`
	Release     attest.ReleaseDigest `json:"release"`
	DataBytes   int64                `json:"data_bytes"`
	MemoryBytes int64                `json:"memory_bytes"`
	VCPUs       int                  `json:"vcpus"`
	CreatedAt   time.Time            `json:"created_at"`
	// On is the power that was asked for.
	On bool `json:"on"`
	// Deleting and KeepData say that a deletion has begun; it is never taken
	// back.
	Deleting bool `json:"deleting"`
	KeepData bool `json:"keep_data"`
	// Port is where on loopback the machine is reached. It stays once the
	// machine has run.
	Port int `json:"port"`
	// Address is the machine's own, in the settings' network; zero where it
	// has a port instead.
	Address netip.Addr `json:"address,omitzero"`
	// Ran says that the machine was started at least once.
	Ran bool `json:"ran"`
	// QEMU and SWTPM are the processes of the last run; zero from the moment
	// a start is asked for until it has happened.
	QEMU  proc.ID `json:"qemu"`
	SWTPM proc.ID `json:"swtpm"`
	// DataFrom is the machine whose kept disk this one was given; empty where
	// the disk is its own.
	DataFrom providers.MachineID `json:"data_from,omitempty"`
	// Failure is why the last attempt to start came to nothing.
	Failure string `json:"failure"`
}

// shape is that of the machine's board.
func (r record) shape() board.Shape {
	return board.Shape{VCPUs: r.VCPUs, MemoryBytes: r.MemoryBytes}
}

// inbound is the port of a machine that clients reach.
const inbound = 443

// endpoint is where the machine is reached; empty where it is nowhere.
func (r record) endpoint() string {
	switch {
	case r.Address.IsValid():
		return netip.AddrPortFrom(r.Address, inbound).String()
	case r.Port != 0:
		return endpoint(r.Port)
	}
	return ""
}

func parseRecord(b []byte) (record, error) {
	var r record
	if len(b) > maxRecordBytes {
		return r, fmt.Errorf("machine record has %d bytes, at most %d", len(b), maxRecordBytes)
	}
	if err := strictjson.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("reading the machine record: %w", err)
	}
	switch {
	case r.Version != recordVersion:
		return r, fmt.Errorf("machine record has version %d, want %d", r.Version, recordVersion)
	case sdk.CheckID("machine", r.Machine) != nil:
		return r, fmt.Errorf("machine record names the machine %q", r.Machine)
	case sdk.CheckID("installation", r.Installation) != nil:
		return r, fmt.Errorf("machine record names the installation %q", r.Installation)
	case r.DataFrom != "" && sdk.CheckID("from", r.DataFrom) != nil:
		return r, fmt.Errorf("machine record names the kept disk %q", r.DataFrom)
	case r.Port < 0 || r.Port > 65535:
		return r, fmt.Errorf("machine record names port %d", r.Port)
	}
	return r, nil
}

func readRecord(dir string) (record, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return record{}, err
	}
	return parseRecord(b)
}

func (r record) write(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return statefile.Write(filepath.Join(dir, recordFile), 0o600, append(b, '\n'))
}

// The files of a machine's directory.
const (
	recordFile    = "machine.json"
	configFile    = "config.img"
	variablesFile = "vars.fd"
	systemFile    = "system.qcow2"
	dataFile      = "data.raw"
	tpmDir        = "tpm"
	ekFile        = "ek.der"
	consoleFile   = "console.log"
	qemuLogFile   = "qemu.log"
	// pidFile is removed by a QEMU that ends by itself, and is left by one
	// that is killed or crashes. No pid is ever read from it.
	pidFile      = "qemu.pid"
	swtpmLogFile = "swtpm.log"
)

// The directories of the state directory.
const (
	machinesDir = "machines"
	imagesDir   = "images"
	keptDir     = "kept"
	snapshotDir = "snapshots"
	caDir       = "ca"
	tempDir     = "tmp"
	lockFile    = "lock"
)

func socketName(id providers.MachineID) string { return string(id) + ".qmp" }
