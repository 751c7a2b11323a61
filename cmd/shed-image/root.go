package main

import (
	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const rootLong = `shed-image holds the commands of shed that need the image builder; people type
them as shed's.`

func newRootCommand() *cobra.Command {
	root := cli.NewRoot(rootLong)
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newImageCommand(), newReleaseCommand(), newProviderCommand(), cli.NewVersionCommand())
	return root
}
