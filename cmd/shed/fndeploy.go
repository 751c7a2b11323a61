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

func newFnDeployCommand(open fnOpener) *cobra.Command {
	var flags clientFlags
	cmd := &cobra.Command{
		Use:   "deploy URL NAME FILE",
		Short: "make a module the next version of a function",
		Args:  cobra.ExactArgs(3),
		RunE: open.run(&flags, func(ctx context.Context, cmd *cobra.Command, f functions, args []string) error {
			module, err := readCapped(args[1], maxFnAnswer)
			if err != nil {
				return fmt.Errorf("reading the module: %w", err)
			}
			var out struct {
				Name    string `json:"name"`
				Version int64  `json:"version"`
				New     bool   `json:"new"`
			}
			err = f.read(ctx, http.MethodPut, "/"+url.PathEscape(args[0]), module, http.Header{"Content-Type": {"application/wasm"}}, &out)
			if err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			is := "is now"
			if !out.New {
				is = "already was"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s version %d\n", out.Name, is, out.Version)
			return err
		}),
	}
	flags.register(cmd)
	return cmd
}
