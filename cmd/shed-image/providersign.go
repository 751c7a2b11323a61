package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/manifest"
)

func newProviderCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "provider", Short: "sign provider plugins", Args: cobra.NoArgs}
	cmd.AddCommand(newProviderSignCommand())
	return cmd
}

const providerSignLong = `sign writes beside PLUGIN, a program called shed-provider-NAME, its manifest
(PLUGIN.json: name, version, contract, platform, SHA-256) and the signature over
that (PLUGIN.json.sigstore.json), which ` + "`shed provider install`" + ` and every start of
the plugin check. KEY is one as ` + "`shed image sign`" + ` takes it; cosign checks the
signature too:

  cosign verify-blob --key KEY.pub --bundle PLUGIN.json.sigstore.json \
    --new-bundle-format --insecure-ignore-tlog PLUGIN.json`

func newProviderSignCommand() *cobra.Command {
	var ref, version string
	cmd := &cobra.Command{
		Use:   "sign PLUGIN --key KEY --plugin-version VERSION",
		Short: "sign a provider plugin for others to install",
		Long:  providerSignLong,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, name, ok := strings.Cut(filepath.Base(args[0]), "shed-provider-")
			if !ok {
				return cli.Usage(fmt.Errorf("the name of %s does not end with shed-provider- and the provider's name", args[0]))
			}
			m, err := manifest.Of(args[0], name, version, providers.ContractVersion)
			if err != nil {
				return cli.Usage(err)
			}
			key, err := sign.Load(cmd.Context(), ref, keyPassword)
			if err != nil {
				return explainKey(err, ref)
			}
			text, err := m.Encode()
			if err != nil {
				return err
			}
			bundle, err := key.Bundle(cmd.Context(), text)
			if err != nil {
				return fmt.Errorf("signing the manifest: %w", err)
			}
			for suffix, b := range map[string][]byte{manifest.FileSuffix: text, manifest.BundleSuffix: bundle} {
				if err := statefile.Write(args[0]+suffix, 0o644, b); err != nil {
					return fmt.Errorf("writing the manifest: %w", err)
				}
			}
			return cli.PrintResult(cmd, m, "signed provider %s %s: sha256 %s\n", m.Name, m.Release, m.SHA256)
		},
	}
	cmd.Flags().StringVar(&ref, "key", "", "the maker's key: a PEM file or a key URI")
	cmd.Flags().StringVar(&version, "plugin-version", "", "the plugin's own version")
	cobra.CheckErr(cmd.MarkFlagRequired("key"))
	cobra.CheckErr(cmd.MarkFlagRequired("plugin-version"))
	return cmd
}
