package plugin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// ManifestVersion is the only version of plugins.json that is read.
const ManifestVersion = 1

// maxManifestBytes caps plugins.json before it is parsed.
const maxManifestBytes = 64 << 10

// programPrefix and the plugin's name make the program's name.
const programPrefix = "shed-provider-"

// ErrManifest says that a manifest of plugins cannot be used, or that a plugin
// is not in it.
var ErrManifest = errors.New("plugin manifest")

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Manifest is the file plugins.json: the SHA-256 of every plugin the host may
// start, under the provider's name. It stands beside the programs and is made
// when they are built.
type Manifest struct {
	Version int                      `json:"version"`
	Plugins map[string]attest.Digest `json:"plugins"`
}

// ReadManifest reads a manifest from a file.
func ReadManifest(path string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("opening the plugin manifest: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxManifestBytes+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("reading %s: %w", path, err)
	}
	m, err := ParseManifest(b)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// ParseManifest reads a manifest from its bytes.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > maxManifestBytes {
		return m, fmt.Errorf("%w: more than %d bytes", ErrManifest, maxManifestBytes)
	}
	if err := strictjson.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if m.Version != ManifestVersion {
		return Manifest{}, fmt.Errorf("%w: version %d, want %d", ErrManifest, m.Version, ManifestVersion)
	}
	for name, sum := range m.Plugins {
		if !validName.MatchString(name) {
			return Manifest{}, fmt.Errorf("%w: plugin name %q is not lower-case letters, digits and dashes", ErrManifest, name)
		}
		if sum.IsZero() {
			return Manifest{}, fmt.Errorf("%w: plugin %s has no checksum", ErrManifest, name)
		}
	}
	return m, nil
}

// Plugin answers where the plugin stands in dir and what its program must
// hash to.
func (m Manifest) Plugin(dir, name string) (path string, sum attest.Digest, err error) {
	sum, ok := m.Plugins[name]
	if !ok {
		return "", sum, fmt.Errorf("%w: provider %q is not in it", ErrManifest, name)
	}
	return filepath.Join(dir, programPrefix+name), sum, nil
}
