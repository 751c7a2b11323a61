package oci

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
