package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "explain the control plane's configuration",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(newConfigExplainCommand())
	return cmd
}

func newConfigExplainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "print every key with its value, where that comes from, and what it means",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, values, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(values)
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "KEY\tVALUE\tFROM\tDEFAULT\tMEANING")
			for _, v := range values {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", v.Key, v.Value, v.Source, v.Default, v.Meaning)
			}
			return t.Flush()
		},
	}
	configFlags(cmd)
	return cmd
}
