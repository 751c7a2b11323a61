package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

// checksumsFile is the manifest of plugins that is built beside them.
const checksumsFile = "plugins.json"

// openProvider starts the configured plugin with the checksum that its
// manifest pins.
func openProvider(ctx context.Context, c config.Config, logger *zap.Logger) (providers.Provider, error) {
	dir, err := programDir()
	if err != nil {
		return nil, err
	}
	if c.Plugin != "" {
		dir = filepath.Dir(c.Plugin)
	}
	checksums := c.Checksums
	if checksums == "" {
		checksums = filepath.Join(dir, checksumsFile)
	}
	manifest, err := plugin.ReadManifest(checksums)
	if err != nil {
		return nil, err
	}
	path, sum, err := manifest.Plugin(dir, c.ProviderName)
	if err != nil {
		return nil, err
	}
	if c.Plugin != "" {
		path = c.Plugin
	}
	return plugin.Open(ctx, plugin.Options{Name: c.ProviderName, Path: path, SHA256: sum, Log: logger.Named("provider")})
}

func programDir() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("looking for the plugins: %w", err)
	}
	return filepath.Dir(program), nil
}
