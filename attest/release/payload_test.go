package release

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/payload"
)

// withPayload puts another server in the toolshed's place.
func withPayload(m *Manifest) *Payload {
	spec := payload.Default()
	spec.Command = []string{"/bin/server", "--quiet"}
	spec.Network = payload.Network{Right: payload.Listed, Hosts: []payload.Host{{Name: "example.com", Port: 443}}}
	m.Schema = SchemaPayload
	m.Payload = &Payload{Spec: spec, Root: &Root{
		File:     File{Name: "payload.img", SHA256: attest.Sum([]byte("root")), Bytes: 3 * 4096},
		RootHash: attest.Sum([]byte("tree")), DataBytes: 2 * 4096,
	}}
	return m.Payload
}

// A payload stands in the manifest with or without firmware of the release's
// own, and comes back as it went.
func TestManifestWithPayload(t *testing.T) {
	for name, prepare := range map[string]func(*Manifest){
		"cloud's firmware": func(*Manifest) {},
		"own firmware":     func(m *Manifest) { withFirmware(m) },
		"secure boot":      withSecureBoot,
		"in the image":     func(*Manifest) {},
	} {
		m := sampleManifest()
		prepare(m)
		withPayload(m)
		if name == "in the image" {
			m.Payload.Root = nil
		}
		again, err := ParseManifest(encoded(t, m))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%s: %+v, error %v", name, again, err)
		}
	}
}

func TestManifestRefusesPayloads(t *testing.T) {
	for want, change := range map[string]func(*Manifest){
		"payload is what schema 4 adds":         func(m *Manifest) { m.Schema = SchemaVersion },
		"schema is 4: payload":                  func(m *Manifest) { m.Payload = nil },
		"schema is 5":                           func(m *Manifest) { m.Schema = 5 },
		"payload: unusable payload":             func(m *Manifest) { m.Payload.User = 0 },
		"payload.root.file.name":                func(m *Manifest) { m.Payload.Root.File.Name = "../x" },
		"payload.root.root_hash":                func(m *Manifest) { m.Payload.Root.RootHash = attest.Digest{} },
		"payload.root.data_bytes is 0":          func(m *Manifest) { m.Payload.Root.DataBytes = 0 },
		"payload.root.data_bytes is 4097":       func(m *Manifest) { m.Payload.Root.DataBytes = 4097 },
		"fewer than the file's 12288 bytes":     func(m *Manifest) { m.Payload.Root.DataBytes = 3 * 4096 },
		"schema is 3: payload is what schema 4": func(m *Manifest) { withSecureBoot(m) },
		"boots[0].sha256 names register 0, which f": func(m *Manifest) {
			withFirmware(m)
			m.Schema = SchemaPayload
			m.Boots[0].SHA256["0"], m.Boots[0].SHA384["0"] = strings.Repeat("00", 32), strings.Repeat("00", 48)
		},
	} {
		m := sampleManifest()
		withPayload(m)
		change(m)
		if _, err := m.Encode(); !errors.Is(err, attest.ErrRelease) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: error %v", want, err)
		}
	}
}

// A release that brings the toolshed along and starts something else runs another
// payload: its owner is told.
func TestToolshedThatIsNotStarted(t *testing.T) {
	m := &Manifest{Payload: &Payload{Spec: payload.Toolshed()}}
	if m.OtherPayload() == nil {
		t.Error("without the toolshed among its inputs it is taken for that")
	}
	m.Inputs = []Input{{Name: ToolshedInput}}
	if got := m.OtherPayload(); got != nil {
		t.Errorf("the toolshed is shown as %q", got.Command)
	}
	m.Payload.Command = []string{"/bin/other"}
	if m.OtherPayload() == nil {
		t.Error("a command that is not the toolshed's is not shown")
	}
}
