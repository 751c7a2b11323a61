package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newFnRollbackCommand(open fnOpener) *cobra.Command {
	var flags clientFlags
	var version int64
	cmd := &cobra.Command{
		Use:   "rollback URL NAME",
		Short: "have another version of a function called",
		Args:  cobra.ExactArgs(2),
		RunE: open.run(&flags, func(ctx context.Context, cmd *cobra.Command, f functions, args []string) error {
			body, err := json.Marshal(map[string]int64{"version": version})
			if err != nil {
				return err
			}
			below := "/" + url.PathEscape(args[0]) + "/rollback"
			if err := f.read(ctx, http.MethodPost, below, body, http.Header{"Content-Type": {"application/json"}}, nil); err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"name": args[0], "version": version})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is version %d again\n", args[0], version)
			return err
		}),
	}
	flags.register(cmd)
	cmd.Flags().Int64Var(&version, "version", 0, "the version, as the function's page and API list them")
	if err := cmd.MarkFlagRequired("version"); err != nil {
		panic(err)
	}
	return cmd
}
