package release

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// Encode returns the manifest's canonical bytes, which ParseManifest reads
// back: indented JSON, maps sorted by key, a newline at the end. Errors are as
// ParseManifest's.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.validate(); err != nil {
		return nil, err
	}
	b, err := m.marshal()
	if err != nil {
		return nil, err
	}
	if len(b) > MaxManifestBytes {
		return nil, malformed("manifest has %d bytes, at most %d", len(b), MaxManifestBytes)
	}
	return b, nil
}

func (m *Manifest) marshal() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseManifest reads what Encode wrote and nothing else, so that one release
// has one spelling and one digest. It says nothing about who wrote it: Verify
// does. Errors match attest.ErrMalformed or attest.ErrRelease.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifestBytes {
		return nil, malformed("manifest has %d bytes, at most %d", len(b), MaxManifestBytes)
	}
	var m Manifest
	if err := strictjson.Unmarshal(b, &m); err != nil {
		return nil, malformed("manifest: %w", err)
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	again, err := m.marshal()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, malformed("manifest is not in its canonical form")
	}
	return &m, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", attest.ErrMalformed, fmt.Errorf(format, args...))
}

func unacceptable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", attest.ErrRelease, fmt.Errorf(format, args...))
}
