package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// shownID is how much of an instance's id a line of the history has: enough
// for every command to find it by.
const shownID = 10

func newEventsCommand() *cobra.Command {
	var q adminclient.EventQuery
	cmd := &cobra.Command{
		Use:   "events",
		Short: "print the history of instances, with --json one object a line",
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			if q.Instance != "" {
				i, err := c.Find(cmd.Context(), q.Instance)
				if err != nil {
					return err
				}
				q.Instance = i.ID
			}
			events, err := c.Events(cmd.Context(), q)
			if err != nil {
				return err
			}
			defer events.Close()
			for {
				e, err := events.Next()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err == nil {
					err = printEvent(cmd, e)
				}
				if err != nil {
					return cli.UntilInterrupted(cmd.Context(), err)
				}
			}
		}),
	}
	adminFlags(cmd)
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().StringVar(&q.Instance, "instance", "", "of one instance only: its user, id or a beginning of it")
	cmd.Flags().Int64Var(&q.After, "after", 0, "the last event seen")
	return cmd
}

func printEvent(cmd *cobra.Command, e adminclient.Event) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(e)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %.*s  %-11s  %s\n", e.At.Format(time.RFC3339), shownID, e.Instance, e.To, e.Reason)
	return err
}
