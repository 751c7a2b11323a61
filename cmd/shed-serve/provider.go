package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/orchestrator/config"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

// openProvider starts the configured plugin, or the one of that name beside
// this program.
func openProvider(ctx context.Context, c config.Config, name string, logger *zap.Logger) (providers.Provider, error) {
	path := c.Providers()[name].Plugin
	if path == "" {
		program, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("looking for the plugin: %w", err)
		}
		path = filepath.Join(filepath.Dir(program), "shed-provider-"+name)
	}
	return plugin.Open(ctx, plugin.Options{Name: name, Path: path, Log: logger.Named("provider")})
}

func newProviderCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "provider",
		Short: "test provider plugins",
	}
	cmd.AddCommand(newProviderTestCommand())
	return cmd
}
