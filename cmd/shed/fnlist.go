package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// fnSummary is one function in a list.
type fnSummary struct {
	Name    string `json:"name"`
	Version int64  `json:"version"`
	Account struct {
		Calls    int64 `json:"calls"`
		Failures int64 `json:"failures"`
		TimeUS   int64 `json:"time_us"`
	} `json:"account"`
}

func newFnListCommand(open fnOpener) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "list URL",
		Short: "list functions with what they have cost",
		Args:  cobra.ExactArgs(1),
		RunE: open.run(&flags, func(ctx context.Context, cmd *cobra.Command, f functions, _ []string) error {
			var out struct {
				Functions []fnSummary `json:"functions"`
			}
			if err := f.read(ctx, http.MethodGet, "", nil, nil, &out); err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			for _, one := range out.Functions {
				a := one.Account
				fmt.Fprintf(cmd.OutOrStdout(), "%s version %d, %d calls, %d failed, %s\n", one.Name, one.Version, a.Calls, a.Failures, time.Duration(a.TimeUS)*time.Microsecond)
			}
			return nil
		}),
	}
	flags.register(cmd)
	return cmd
}
