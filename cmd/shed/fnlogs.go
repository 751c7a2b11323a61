package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// fnCall is one call in a function's log.
type fnCall struct {
	ID        int64     `json:"id"`
	Version   int64     `json:"version"`
	Trigger   string    `json:"trigger"`
	At        time.Time `json:"at"`
	TimeUS    int64     `json:"time_us"`
	PeakBytes int64     `json:"peak_memory_bytes"`
	HostCalls int64     `json:"host_calls"`
	Failure   string    `json:"failure,omitempty"`
	Text      string    `json:"text"`
}

func newFnLogsCommand(open fnOpener) *cobra.Command {
	var flags clientFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "logs URL NAME",
		Short: "print what the latest calls of a function wrote to their standard error",
		Args:  cobra.ExactArgs(2),
		RunE: open.run(&flags, func(ctx context.Context, cmd *cobra.Command, f functions, args []string) error {
			var out struct {
				Calls []fnCall `json:"calls"`
			}
			below := fmt.Sprintf("/%s/logs?limit=%d", url.PathEscape(args[0]), limit)
			if err := f.read(ctx, http.MethodGet, below, nil, nil, &out); err != nil {
				return err
			}
			if cli.WantsJSON(cmd) {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
			}
			w := cli.ForPeople(cmd.OutOrStdout())
			for _, c := range out.Calls {
				outcome := "done"
				if c.Failure != "" {
					outcome = c.Failure
				}
				fmt.Fprintf(w, "%s %s version %d: %s in %s\n", c.At.Format(time.RFC3339), c.Trigger, c.Version, outcome, time.Duration(c.TimeUS)*time.Microsecond)
				for line := range strings.Lines(c.Text) {
					fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
				}
			}
			return nil
		}),
	}
	flags.register(cmd)
	cmd.Flags().IntVar(&limit, "limit", 20, "how many calls, at most 500")
	return cmd
}
