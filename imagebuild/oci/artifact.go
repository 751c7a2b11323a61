package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The caps on an artifact.
const (
	maxArtifact = 64 << 10
	maxLayers   = 64
)

// parseArtifact reads the layers of an artifact of a type, by the names of their
// files. The errors match ErrArtifact.
func parseArtifact(b []byte, artifactType string) (map[string]ocispec.Descriptor, error) {
	if len(b) > maxArtifact {
		return nil, fmt.Errorf("%w: its manifest has %d bytes, at most %d", ErrArtifact, len(b), maxArtifact)
	}
	var m ocispec.Manifest
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArtifact, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows its manifest", ErrArtifact)
	}
	switch {
	case m.SchemaVersion != 2 || m.MediaType != ocispec.MediaTypeImageManifest:
		return nil, fmt.Errorf("%w: its manifest is a %.80q", ErrArtifact, m.MediaType)
	case m.ArtifactType != artifactType:
		return nil, fmt.Errorf("%w: its type is %.80q, want %q", ErrArtifact, m.ArtifactType, artifactType)
	case len(m.Layers) == 0 || len(m.Layers) > maxLayers:
		return nil, fmt.Errorf("%w: it has %d layers, want 1 to %d", ErrArtifact, len(m.Layers), maxLayers)
	}
	layers := map[string]ocispec.Descriptor{}
	for i, layer := range m.Layers {
		name := title(layer)
		if name == "" {
			return nil, fmt.Errorf("%w: layers[%d] has no plain file name", ErrArtifact, i)
		}
		if _, twice := layers[name]; twice {
			return nil, fmt.Errorf("%w: it has %q twice", ErrArtifact, name)
		}
		if layer.Digest.Validate() != nil || layer.Digest.Algorithm() != digest.SHA256 || layer.Size <= 0 {
			return nil, fmt.Errorf("%w: %q has no SHA-256 or size", ErrArtifact, name)
		}
		layers[name] = layer
	}
	return layers, nil
}
