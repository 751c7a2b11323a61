package reconcile_test

import (
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

// sampleManifest is the least that a release's manifest says.
func sampleManifest(t *testing.T) []byte {
	t.Helper()
	values := func(bytes int) map[string]string {
		value := strings.Repeat("ab", bytes)
		return map[string]string{"4": value, "9": value, "11": value}
	}
	m := release.Manifest{
		Schema: release.SchemaVersion, Version: "1.0.0", Epoch: 1, Architecture: "amd64", StubVersion: 252,
		Disk:   release.File{Name: "disk.raw", SHA256: attest.Digest{1}, Bytes: 1},
		UKI:    release.File{Name: "uki.efi", SHA256: attest.Digest{2}, Bytes: 1},
		Boots:  []release.Boot{{SHA256: values(32), SHA384: values(48)}},
		Inputs: []release.Input{{Name: "agent", SHA256: attest.Digest{3}, Bytes: 1}},
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
