package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
)

const rootLong = `shed runs a personal, attested VM for every user.

Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  not found
  4  refused: a proof, a permission or a policy
  5  the other side cannot be reached
  6  timed out`

// newRootCommand is the whole tree of commands, one file each.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "shed",
		Short:         "a personal, attested VM for every user",
		Long:          rootLong,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().Bool("json", false, "print JSON for programs")
	root.PersistentFlags().String("state", "", "state directory (default .shed, or SHED_STATE)")
	root.AddCommand(
		newImageCommand(),
		newVerifyCommand(),
		newClaimCommand(),
		newConnectCommand(),
		newForgetCommand(),
		newServeCommand(),
		newInstanceCommand(),
		newReleaseCommand(),
		newEventsCommand(),
		newConfigCommand(),
		newWebhookCommand(),
	)
	return root
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	return report(stderr, root.ExecuteContext(ctx))
}

// stateDir is where everything of a local run lives: flag over environment
// over default.
func stateDir(cmd *cobra.Command) string {
	if dir, err := cmd.Flags().GetString("state"); err == nil && dir != "" {
		return dir
	}
	if dir := os.Getenv("SHED_STATE"); dir != "" {
		return dir
	}
	return ".shed"
}

func wantsJSON(cmd *cobra.Command) bool {
	json, err := cmd.Flags().GetBool("json")
	return err == nil && json
}
