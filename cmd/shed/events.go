package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/orchestrator/api"
)

func newEventsCommand() *cobra.Command {
	var follow bool
	var instance string
	var after int64
	cmd := &cobra.Command{
		Use:   "events",
		Short: "print the history of instances, with --json one object a line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := newAdminClient(cmd)
			if err != nil {
				return err
			}
			query := url.Values{
				"follow": {strconv.FormatBool(follow)}, "instance": {instance}, "after": {strconv.FormatInt(after, 10)},
			}
			stream, err := c.open(cmd.Context(), http.MethodGet, "/v1/events?"+query.Encode(), nil)
			if err != nil {
				return err
			}
			defer stream.Close()
			lines := bufio.NewScanner(stream)
			for lines.Scan() {
				if err := printEvent(cmd, lines.Bytes()); err != nil {
					return err
				}
			}
			return untilInterrupted(cmd.Context(), lines.Err())
		},
	}
	adminFlags(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().StringVar(&instance, "instance", "", "of one instance only")
	cmd.Flags().Int64Var(&after, "after", 0, "the last event seen")
	return cmd
}

func printEvent(cmd *cobra.Command, line []byte) error {
	if wantsJSON(cmd) {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", line)
		return err
	}
	var e api.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("reading the history: %w", err)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %-11s  %s\n", e.At.Format(time.RFC3339), e.Instance, e.To, e.Reason)
	return err
}
