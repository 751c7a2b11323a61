package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/providers/manifest"
	"github.com/toolshed-cloud/shed/providers/plugin"
)

func newProviderCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "provider",
		Short: "test and install provider plugins",
	}
	cmd.AddCommand(newProviderTestCommand(), newProviderInstallCommand())
	return cmd
}

const providerInstallLong = `install puts a provider plugin where the control plane finds it: in the state
directory's plugins. PLUGIN is a program called shed-provider-NAME with its
manifest and the signature beside it (PLUGIN.json and PLUGIN.json.sigstore.json,
as ` + "`shed provider sign`" + ` writes them). KEY.pub is its maker's public key, which the
configuration names in plugins.keys too: the manifest is checked again at every
start. A plugin of that name that is there already is replaced.`

func newProviderInstallCommand() *cobra.Command {
	var keys []string
	cmd := &cobra.Command{
		Use:   "install PLUGIN --key KEY.pub",
		Short: "install a signed provider plugin",
		Long:  providerInstallLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := installPlugin(cmd, args[0], keys)
			if err != nil {
				return err
			}
			return cli.PrintResult(cmd, m, "installed provider %s %s\nname it in provider.name or providers, and %s in plugins.keys\n", m.Name, m.Release, strings.Join(keys, ", "))
		},
	}
	cmd.Flags().StringSliceVar(&keys, "key", nil, "public key of the plugin's maker, PEM; may be given more than once")
	cobra.CheckErr(cmd.MarkFlagRequired("key"))
	return cmd
}

// installPlugin checks a plugin by its manifest and by starting it once, and
// copies it, its manifest last: a copy that was cut short is none.
func installPlugin(cmd *cobra.Command, program string, keyFiles []string) (manifest.Manifest, error) {
	keys, err := readPluginKeys(keyFiles)
	if err != nil {
		return manifest.Manifest{}, cli.Usage(err)
	}
	m, err := manifest.Verify(program, keys)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, cli.NotFound(err)
	case err != nil:
		return m, cli.Refused(err)
	}
	started, err := plugin.Open(cmd.Context(), plugin.Options{Name: m.Name, Path: program, SHA256: m.SHA256, Log: zap.NewNop()})
	if err != nil {
		return m, cli.Refused(fmt.Errorf("trying the plugin: %w", err))
	}
	if err := started.Close(); err != nil {
		return m, fmt.Errorf("trying the plugin: %w", err)
	}
	dir := pluginsDir(cli.StateDir(cmd))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, fmt.Errorf("installing the plugin: %w", err)
	}
	installed := filepath.Join(dir, programPrefix+m.Name)
	for _, suffix := range []string{"", manifest.BundleSuffix, manifest.FileSuffix} {
		if err := copyPart(program+suffix, installed+suffix); err != nil {
			return m, fmt.Errorf("installing the plugin: %w", err)
		}
	}
	_, err = manifest.Verify(installed, keys)
	return m, err
}

// copyPart copies a file of a plugin, which appears whole.
func copyPart(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, manifest.MaxProgramBytes+1))
	if err != nil {
		return err
	}
	return statefile.Write(to, 0o700, b)
}
