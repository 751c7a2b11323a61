package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/config"
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
			return explainValues(cmd.OutOrStdout(), values)
		},
	}
	configFlags(cmd)
	return cmd
}

// explainValues is the table for people, what each key means below it: beside
// it, no line would fit a terminal.
func explainValues(w io.Writer, values []config.Value) error {
	var table bytes.Buffer
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KEY\tVALUE\tFROM\tDEFAULT")
	for _, v := range values {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Key, v.Value, v.Source, v.Default)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for n := -1; table.Len() > 0; n++ {
		line, err := table.ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Fprintln(w, strings.TrimRight(line, " \n"))
		if n >= 0 {
			fmt.Fprintf(w, "    %s\n", cli.Fold(values[n].Meaning, 4, cli.NarrowWidth))
		}
	}
	return nil
}
