package api

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// TestFilesOfAReleaseAreThere wants disk and firmware where the provider will
// look for them, each with the size that was signed.
func TestFilesOfAReleaseAreThere(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) release.File {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return release.File{Name: name, SHA256: attest.Sum([]byte(content)), Bytes: int64(len(content))}
	}
	values := func(bytes int, registers ...string) map[string]string {
		out := map[string]string{}
		for _, r := range registers {
			out[r] = strings.Repeat("ab", bytes)
		}
		return out
	}
	disk := file("disk.raw", "disk")
	m := release.Manifest{
		Schema: release.SchemaFirmware, Version: "1.0.0", Epoch: 1, Architecture: "amd64", StubVersion: 252,
		Disk: disk, UKI: disk, Boots: []release.Boot{{SHA256: values(32, "4", "9", "11"), SHA384: values(48, "4", "9", "11")}},
		Firmware: &release.Firmware{
			Code: file("firmware.fd", "firmware"), Variables: file("variables.fd", "variables"),
			Shapes: []release.Shape{{
				Shape: board.Shape{VCPUs: 1, MemoryBytes: 1 << 30}, SHA256: values(32, "0", "1"), SHA384: values(48, "0", "1"),
			}},
		},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Digest{1}, Bytes: 1}},
	}
	manifest, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := orchestrator.Release{Manifest: manifest, DiskPath: filepath.Join(dir, "disk.raw"), DiskSHA256: disk.SHA256, DiskBytes: disk.Bytes}
	if err := checkFiles(r); err != nil {
		t.Fatal(err)
	}
	refused := func(name, code, detail string) {
		t.Helper()
		var p *problem.Problem
		if err := checkFiles(r); !errors.As(err, &p) || p.Code != code || !strings.Contains(p.Detail, detail) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	file("variables.fd", "longer variables")
	refused("another size", "firmware-invalid", "variables.fd beside disk_path holds 16 bytes")
	if err := os.Remove(filepath.Join(dir, "firmware.fd")); err != nil {
		t.Fatal(err)
	}
	refused("no firmware", "firmware-invalid", "firmware.fd beside disk_path cannot be read")
	r.DiskPath = "disk.raw"
	refused("a relative path", "disk-invalid", "not absolute")
	r.Manifest = []byte("{}")
	refused("no manifest", "release-invalid", "schema")
}
