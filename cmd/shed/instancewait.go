package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/orchestrator/api"
)

// waitOptions say whether to stay until an instance is where it shall be.
type waitOptions struct {
	wait    bool
	timeout time.Duration
}

func (w *waitOptions) flags(cmd *cobra.Command, goal string) {
	cmd.Flags().BoolVar(&w.wait, "wait", false, "stay until it is "+goal)
	w.timeoutFlag(cmd)
}

func (w *waitOptions) timeoutFlag(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&w.timeout, "timeout", 10*time.Minute, "how long to stay at most")
}

func newInstanceWaitCommand() *cobra.Command {
	w := waitOptions{wait: true}
	var goal string
	cmd := &cobra.Command{
		Use:   "wait INSTANCE",
		Short: "stay until an instance has reached a state",
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
			return w.finish(cmd, c, i, goal)
		},
	}
	cmd.Flags().StringVar(&goal, "for", "ready", "the state")
	w.timeoutFlag(cmd)
	return cmd
}

// finish waits where that was asked for, and prints the instance.
func (w *waitOptions) finish(cmd *cobra.Command, c *adminClient, i api.Instance, goal string) error {
	if w.wait {
		ctx, cancel := context.WithTimeout(cmd.Context(), w.timeout)
		defer cancel()
		var err error
		if i, err = c.await(ctx, cmd.ErrOrStderr(), i.ID, goal); err != nil {
			return err
		}
	}
	return printInstance(cmd, i)
}

// await follows an instance's history, writing what happens to it to w, until
// it is in the state goal or can no longer get there by itself.
func (c *adminClient) await(ctx context.Context, w io.Writer, id, goal string) (api.Instance, error) {
	start := time.Now()
	query := url.Values{"instance": {id}, "follow": {"true"}}
	stream, err := c.open(ctx, http.MethodGet, "/v1/events?"+query.Encode(), nil)
	if err != nil {
		return api.Instance{}, err
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	for {
		i, err := c.instance(ctx, id)
		if err != nil {
			return i, err
		}
		if err := arrived(i, goal); !errors.Is(err, errUnderWay) {
			return i, err
		}
		if !lines.Scan() {
			return i, ended(ctx, i, goal, lines.Err())
		}
		if err := tell(w, lines.Bytes(), start); err != nil {
			return i, err
		}
	}
}

// ended says why no more history came.
func ended(ctx context.Context, i api.Instance, goal string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("waiting for %s to be %s, it is %s (%s): %w", i.ID, goal, i.State, i.Reason, ctx.Err())
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return &failure{code: exitUnreachable, err: fmt.Errorf("following the history: %w", err)}
}

var errUnderWay = errors.New("under way")

// arrived is nil in the state goal, and errUnderWay while that can still come.
func arrived(i api.Instance, goal string) error {
	switch i.State {
	case goal:
		return nil
	case "quarantined":
		if goal == "deleted" {
			return errUnderWay
		}
		return refused(fmt.Errorf("instance %s is quarantined: %s", i.ID, i.Reason))
	case "failed":
		if goal == "deleted" {
			return errUnderWay
		}
		return hinted(fmt.Errorf("instance %s has failed: %s", i.ID, i.Reason), "`shed instance retry %s` tries again", i.ID)
	case "deleted":
		return notFound(fmt.Errorf("instance %s is deleted", i.ID))
	}
	return errUnderWay
}

// tell writes one line of the history, unless it is from before.
func tell(w io.Writer, line []byte, start time.Time) error {
	var e api.Event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("reading the history: %w", err)
	}
	if e.At.Before(start.Add(-time.Second)) {
		return nil
	}
	_, err := fmt.Fprintf(w, "%7.1fs  %-11s  %s\n", max(0, e.At.Sub(start).Seconds()), e.To, e.Reason)
	return err
}
