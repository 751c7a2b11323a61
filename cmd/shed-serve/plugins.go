package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/manifest"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

// programPrefix begins the names of plugins' programs.
const programPrefix = "shed-provider-"

// pluginsDir holds what shed provider install put there.
func pluginsDir(state string) string { return filepath.Join(state, "plugins") }

var errUnsigned = errors.New("the plugin is not vouched for")

// plugins starts a configuration's plugins.
type plugins struct {
	config config.Config
	// dir holds those that were installed.
	dir    string
	logger *zap.Logger
}

// open starts the plugin of a name: the one that is configured, or else the one
// that was installed, or else the one beside this program. What is not beside
// this program, and so came with it, needs a signed manifest.
func (p plugins) open(ctx context.Context, name string) (providers.Provider, error) {
	path, own, err := p.find(name)
	if err != nil {
		return nil, err
	}
	o := plugin.Options{Name: name, Path: path, Log: p.logger.Named("provider")}
	if !own {
		if o.SHA256, err = p.vouched(name, path); err != nil {
			return nil, err
		}
	}
	return plugin.Open(ctx, o)
}

func (p plugins) find(name string) (path string, own bool, err error) {
	if path := p.config.Providers()[name].Plugin; path != "" {
		return path, false, nil
	}
	installed := filepath.Join(p.dir, programPrefix+name)
	if _, err := os.Stat(installed); err == nil {
		return installed, false, nil
	}
	program, err := os.Executable()
	if err != nil {
		return "", false, fmt.Errorf("looking for the plugin: %w", err)
	}
	return filepath.Join(filepath.Dir(program), programPrefix+name), true, nil
}

// vouched answers the checksum that the signed manifest pins; zero where the
// configuration wants none.
func (p plugins) vouched(name, path string) (attest.Digest, error) {
	if p.config.PluginsUnsigned {
		p.logger.Warn("a plugin is started that nobody vouches for (plugins.unsigned)", zap.String("plugin", path))
		return attest.Digest{}, nil
	}
	keys, err := readPluginKeys(p.config.PluginKeys)
	if err != nil {
		return attest.Digest{}, p.config.Errorf("plugins.keys", err)
	}
	m, err := manifest.Verify(path, keys)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return attest.Digest{}, cli.Hinted(fmt.Errorf("%w: %w", errUnsigned, err),
			"its maker signs it with shed provider sign; plugins.unsigned: true starts it all the same, for development")
	case err != nil:
		return attest.Digest{}, cli.Hinted(cli.Refused(fmt.Errorf("%w: %w", errUnsigned, err)),
			"install it again with shed provider install, or name its maker's key in plugins.keys")
	case m.Name != name:
		return attest.Digest{}, cli.Refused(fmt.Errorf("%w: its manifest is of provider %s, not %s", errUnsigned, m.Name, name))
	}
	return m.SHA256, nil
}

func readPluginKeys(files []string) ([]crypto.PublicKey, error) {
	var keys []crypto.PublicKey
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		key, err := release.ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}
