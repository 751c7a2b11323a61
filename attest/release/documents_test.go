package release

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

func withDocuments(m *Manifest) {
	m.Schema = SchemaDocuments
	m.Documents = &Documents{
		SBOM:       File{Name: "sbom.cdx.json", SHA256: attest.Sum([]byte("sbom")), Bytes: 4},
		Provenance: File{Name: "provenance.json", SHA256: attest.Sum([]byte("provenance")), Bytes: 10},
	}
}

// Documents stand in the manifest with whatever else it has, and come back as
// they went.
func TestManifestWithDocuments(t *testing.T) {
	for name, prepare := range map[string]func(*Manifest){
		"cloud's firmware": func(*Manifest) {},
		"own firmware":     func(m *Manifest) { withFirmware(m) },
		"secure boot":      withSecureBoot,
		"payload":          func(m *Manifest) { withPayload(m) },
	} {
		m := sampleManifest()
		prepare(m)
		withDocuments(m)
		again, err := ParseManifest(encoded(t, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%s: %+v, error %v", name, again, err)
		}
	}
}

func TestManifestRefusesDocuments(t *testing.T) {
	for want, change := range map[string]func(*Manifest){
		"schema is 1: documents is what schema 5 adds": func(m *Manifest) { m.Schema = SchemaVersion },
		"schema is 4: documents is what schema 5 adds": func(m *Manifest) { withPayload(m) },
		"schema is 5: documents is what schema 5 adds": func(m *Manifest) { m.Documents = nil },
		"schema is 7, want 1 to 6":                     func(m *Manifest) { m.Schema = 7 },
		"documents.sbom.name":                          func(m *Manifest) { m.Documents.SBOM.Name = "../sbom" },
		"documents.sbom.sha256 is unset":               func(m *Manifest) { m.Documents.SBOM.SHA256 = attest.Digest{} },
		"documents.provenance.bytes is 0":              func(m *Manifest) { m.Documents.Provenance.Bytes = 0 },
		"documents.provenance.name is that of the":     func(m *Manifest) { m.Documents.Provenance.Name = m.Documents.SBOM.Name },
		"firmware.shapes has 0": func(m *Manifest) {
			withFirmware(m)
			withDocuments(m)
			m.Firmware.Shapes = nil
		},
	} {
		m := sampleManifest()
		withDocuments(m)
		change(m)
		if _, err := m.Encode(); !errors.Is(err, attest.ErrRelease) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}
