package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/orchestrator/api"
)

const instancesPath = "/v1/instances"

func newInstanceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instance",
		Short: "list, show, create, delete and retry instances",
		Args:  cobra.NoArgs,
	}
	adminFlags(cmd)
	cmd.AddCommand(
		newInstanceListCommand(), newInstanceShowCommand(), newInstanceCreateCommand(), newInstanceWaitCommand(),
		newInstanceChangeCommand("delete", "delete an instance, its machine and its data", http.MethodDelete, "", "deleted"),
		newInstanceChangeCommand("retry", "try a failed or quarantined instance again", http.MethodPost, "/retry", "ready"),
		newInstanceConsoleCommand(),
	)
	return cmd
}

func newInstanceListCommand() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list instances",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			all, err := c.instances(cmd.Context(), deleted)
			if err != nil {
				return err
			}
			if wantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(api.Instances{Instances: all})
			}
			return tabulate(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "include those that are gone")
	return cmd
}

// instances follows the pages to their end.
func (c *adminClient) instances(ctx context.Context, deleted bool) ([]api.Instance, error) {
	all := []api.Instance{}
	for after := ""; ; {
		var page api.Instances
		query := url.Values{"after": {after}, "deleted": {fmt.Sprint(deleted)}}
		if err := c.call(ctx, http.MethodGet, instancesPath+"?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Instances...)
		if page.Next == "" {
			return all, nil
		}
		after = page.Next
	}
}

func tabulate(w io.Writer, all []api.Instance) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "INSTANCE\tUSER\tSTATE\tURL\tREASON")
	for _, i := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", i.ID, i.UserID, i.State, i.URL, i.Reason)
	}
	return t.Flush()
}

func newInstanceShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show INSTANCE",
		Short: "show an instance",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			i, err := c.instance(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return printInstance(cmd, i)
		},
	}
}

func (c *adminClient) instance(ctx context.Context, id string) (i api.Instance, err error) {
	return i, c.call(ctx, http.MethodGet, instancesPath+"/"+url.PathEscape(id), nil, &i)
}

func printInstance(cmd *cobra.Command, i api.Instance) error {
	if wantsJSON(cmd) {
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
		{"tier", i.Tier},
	} {
		if row[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
		}
	}
	return t.Flush()
}

func newInstanceCreateCommand() *cobra.Command {
	var user string
	var w waitOptions
	cmd := &cobra.Command{
		Use:   "create --user USER",
		Short: "give a user an instance; one that is there is fine",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			var i api.Instance
			if err := c.call(cmd.Context(), http.MethodPost, instancesPath, api.NewInstance{UserID: user}, &i); err != nil {
				return err
			}
			return w.finish(cmd, c, i, "ready")
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "the signup source's name for the user")
	cobra.CheckErr(cmd.MarkFlagRequired("user"))
	w.flags(cmd, "ready")
	return cmd
}

// newInstanceChangeCommand makes delete and retry, which ask for a state.
func newInstanceChangeCommand(name, short, method, suffix, goal string) *cobra.Command {
	var w waitOptions
	cmd := &cobra.Command{
		Use:   name + " INSTANCE",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			var i api.Instance
			path := instancesPath + "/" + url.PathEscape(args[0]) + suffix
			if err := c.call(cmd.Context(), method, path, nil, &i); err != nil {
				return err
			}
			return w.finish(cmd, c, i, goal)
		},
	}
	w.flags(cmd, goal)
	return cmd
}

func newInstanceConsoleCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "console INSTANCE",
		Short: "print what a machine writes to its console",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			path := fmt.Sprintf("%s/%s/console?follow=%t", instancesPath, url.PathEscape(args[0]), follow)
			stream, err := c.open(cmd.Context(), http.MethodGet, path, nil)
			if err != nil {
				return err
			}
			defer stream.Close()
			return untilInterrupted(cmd.Context(), copyAll(cmd.OutOrStdout(), stream))
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	return cmd
}

func copyAll(w io.Writer, r io.Reader) error {
	_, err := io.Copy(w, r)
	return err
}

// untilInterrupted takes being interrupted for the end that was wanted.
func untilInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it was asked to end
	}
	return err
}
