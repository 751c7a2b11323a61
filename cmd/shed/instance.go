package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

const instanceLong = `INSTANCE is an instance's user, its id, or a beginning of its id that no other
instance has.`

func newInstanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instance",
		Short: "list, show, create, delete, retry, update, replace, grow and copy instances",
		Long:  instanceLong,
	}
	adminFlags(cmd)
	cmd.AddCommand(
		newInstanceListCommand(), newInstanceShowCommand(), newInstanceCreateCommand(), newInstanceWaitCommand(),
		newInstanceDeleteCommand(), newInstanceRetryCommand(), newInstanceConsoleCommand(),
		newInstanceUpdateCommand(), newInstanceReplaceCommand(), newInstanceResizeCommand(), newInstanceSnapshotCommand(), newInstanceRestoreCommand(),
	)
	return cmd
}

func newInstanceListCommand() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list instances",
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			all, err := c.Instances(cmd.Context(), deleted)
			if err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(adminclient.Instances{Instances: all})
			}
			return tabulate(cmd.OutOrStdout(), all)
		}),
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "include those that are gone")
	return cmd
}

// tabulate keeps to 80 columns where ids, users and URLs do: only while an
// instance has no URL is there a reason to tell.
func tabulate(w io.Writer, all []adminclient.Instance) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INSTANCE\tUSER\tSTATE\tURL OR REASON")
	for _, i := range all {
		last := i.URL
		if last == "" {
			last = i.Reason
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", i.ID, i.UserID, i.State, last)
	}
	return t.Flush()
}

func newInstanceShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show INSTANCE",
		Short: "show an instance",
		Long:  instanceLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if wantsEAR(cmd) {
				return showEAR(cmd, c, i.ID)
			}
			return printInstance(cmd, i)
		}),
	}
	cmd.Flags().Bool("ear", false, "print the control plane's result as the EAT Attestation Result (JWT) that it signed")
	return cmd
}

func printInstance(cmd *cobra.Command, i adminclient.Instance) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(i)
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"instance", i.ID},
		{"user", i.UserID},
		{"state", i.State},
		{"reason", i.Reason},
		{"since", i.Since.Format(time.RFC3339)},
		{"url", i.URL},
		{"listens unrouted at", i.UnroutedInbound},
		{"machine", i.Machine},
		{"release", i.Release},
		{"made from", i.MadeFrom},
		{"update", describeUpdate(i.Update)},
		{"tier", i.Tier},
	} {
		if row[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
		}
	}
	return t.Flush()
}

func newInstanceCreateCommand() *cobra.Command {
	var n adminclient.NewInstance
	var w waitOptions
	cmd := &cobra.Command{
		Use:   "create --user USER",
		Short: "give a user an instance; one that is there is fine",
		Args:  cobra.NoArgs,
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, _ []string) error {
			i, err := c.Create(cmd.Context(), n)
			if err != nil {
				return err
			}
			return w.finish(cmd, c, i, "ready")
		}),
	}
	cmd.Flags().StringVar(&n.UserID, "user", "", "the signup source's name for the user")
	cmd.Flags().StringVar(&n.Plan, "plan", "", "a plan of the configuration, which says where its machine is made")
	cmd.Flags().StringVar(&n.Region, "region", "", "keep to the places in this region")
	cobra.CheckErr(cmd.MarkFlagRequired("user"))
	w.flags(cmd, "ready")
	return cmd
}

func newInstanceRetryCommand() *cobra.Command {
	var w waitOptions
	cmd := &cobra.Command{
		Use:   "retry INSTANCE",
		Short: "try a failed or quarantined instance again",
		Long:  instanceLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if i, err = c.Retry(cmd.Context(), i.ID); err != nil {
				return err
			}
			return w.finish(cmd, c, i, "ready")
		}),
	}
	w.flags(cmd, "ready")
	return cmd
}

func newInstanceConsoleCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "console INSTANCE",
		Short: "print what a machine writes to its console",
		Long:  instanceLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			stream, err := c.Console(cmd.Context(), i.ID, follow)
			if err != nil {
				return err
			}
			defer stream.Close()
			_, err = io.Copy(cli.ForPeople(cmd.OutOrStdout()), stream)
			return cli.UntilInterrupted(cmd.Context(), err)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	return cmd
}
