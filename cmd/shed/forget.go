package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newForgetCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "forget URL",
		Short: "drop what was accepted of the machine at URL",
		Long: `forget removes the pinned keys of the machine at URL from STATE/client: the next
machine there is verified as a new one. The owner key stays.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			u, err := parseMachine(args[0])
			if err != nil {
				return err
			}
			state := client.ClientState{Dir: filepath.Join(cli.StateDir(cmd), "client")}
			pin, err := state.Pin(u.Host)
			if err != nil {
				return err
			}
			if pin == nil {
				return cli.NotFound(fmt.Errorf("nothing was accepted at %s", u.Host))
			}
			return state.Forget(u.Host)
		},
	}
}
