package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newLogsCommand() *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "logs URL",
		Short: "print the latest of what your machine's payload printed",
		Long: `logs verifies your machine at URL and prints the latest of what its payload
wrote, 64 KiB at most. The machine keeps it in memory and shows it to its owner
alone; the operator's console has none of it.
` + clientHelp + `

Exits with 4 where the machine is refused, or does not take you for its owner.`,
		Args: cobra.ExactArgs(1),
		RunE: flags.run((*relyingParty).logs),
	}
	flags.register(cmd)
	return cmd
}

func (c *relyingParty) logs(ctx context.Context, cmd *cobra.Command) error {
	if _, err := c.claimed(); err != nil {
		return err
	}
	keys, err := c.state.Keys(rand.Reader)
	if err != nil {
		return err
	}
	session, err := c.session(ctx, cmd)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := c.remember(ctx, session); err != nil {
		return err
	}
	output, err := session.Output(ctx, keys)
	if err != nil {
		return refusedByMachine(err)
	}
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"url": c.machine.String(), "output": string(output)})
	}
	if _, err := cli.ForPeople(cmd.OutOrStdout()).Write(output); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}
