package main

import (
	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const rootLong = `shed-serve holds the commands of shed that need the control plane's parts;
people type them as shed's.`

func newRootCommand() *cobra.Command {
	root := cli.NewRoot(rootLong)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newServeCommand(), newConfigCommand(), newProviderCommand(), cli.NewVersionCommand())
	return root
}
