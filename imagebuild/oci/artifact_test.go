package oci

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
)

func TestAddresses(t *testing.T) {
	for text, refused := range map[string]bool{
		"127.0.0.1": true, "127.255.0.9": true, "::1": true, "0.0.0.0": true, "::": true, "169.254.169.254": true, "fe80::1%eth0": true,
		"fd00:ec2::254": true, "100.100.100.200": true, "::ffff:100.100.100.200": true, "::ffff:127.0.0.1": true, "64:ff9b::a9fe:a9fe": true,
		"224.0.0.1": true, "ff02::1": true, "192.0.0.192": true,
		"192.0.2.1": false, "10.1.2.3": false, "2001:db8::1": false, "64:ff9b::c000:201": false, "fd12::1": false,
	} {
		if err := checkAddress(netip.MustParseAddr(text)); errors.Is(err, ErrDestination) != refused {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := checkAddress(netip.Addr{}); !errors.Is(err, ErrDestination) {
		t.Errorf("no address: %v", err)
	}
}

// endless has zeros for ever, as a bomb has when it is unpacked.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestNoMoreIsReadThanWasSigned(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := part{File: release.File{Name: "disk.raw", Bytes: 1 << 20, SHA256: attest.Sum(make([]byte, 1<<20))}}
	if err := p.copyTo(f, endless{}); !errors.Is(err, ErrTampered) {
		t.Errorf("got %v", err)
	}
}

func FuzzArtifact(f *testing.F) {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType, Layers: []ocispec.Descriptor{{
		MediaType: fileType, Digest: digest.FromString("x"), Size: 1, Annotations: map[string]string{ocispec.AnnotationTitle: "uki.efi"},
	}}}
	m.SchemaVersion = 2
	b, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"annotations":{"org.opencontainers.image.title":"../x"}}]}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		layers, err := parseArtifact(b, ArtifactType)
		if err != nil {
			return
		}
		for name, layer := range layers {
			if filepath.Base(name) != name || layer.Size <= 0 || layer.Digest.Validate() != nil {
				t.Errorf("layer %q: %+v", name, layer)
			}
		}
	})
}
