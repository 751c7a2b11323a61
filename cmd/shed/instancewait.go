package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
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
	cmd.Flags().DurationVar(&w.timeout, "timeout", 10*time.Minute, "how long to stay at most; one answer is waited for 30s at most")
}

func newInstanceWaitCommand() *cobra.Command {
	w := waitOptions{wait: true}
	var goal string
	cmd := &cobra.Command{
		Use:   "wait INSTANCE",
		Short: "stay until an instance has reached a state",
		Long:  instanceLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return w.finish(cmd, c, i, goal)
		}),
	}
	cmd.Flags().StringVar(&goal, "for", "ready", "the state")
	w.timeoutFlag(cmd)
	return cmd
}

// finish waits where that was asked for, and prints the instance.
func (w *waitOptions) finish(cmd *cobra.Command, c *adminclient.Client, i adminclient.Instance, goal string) error {
	if w.wait {
		ctx, cancel := context.WithTimeout(cmd.Context(), w.timeout)
		defer cancel()
		var err error
		if i, err = await(ctx, c, cmd.ErrOrStderr(), i.ID, goal); err != nil {
			return err
		}
	}
	return printInstance(cmd, i)
}

// await follows an instance's history, writing what happens to it to w, until
// it is in the state goal or can no longer get there by itself.
func await(ctx context.Context, c *adminclient.Client, w io.Writer, id, goal string) (adminclient.Instance, error) {
	start := time.Now()
	events, err := c.Events(ctx, adminclient.EventQuery{Instance: id, Follow: true})
	if err != nil {
		return adminclient.Instance{}, err
	}
	defer events.Close()
	for {
		i, err := c.Instance(ctx, id)
		if err != nil {
			return i, err
		}
		if err := arrived(i, goal); !errors.Is(err, errUnderWay) {
			return i, err
		}
		e, err := events.Next()
		if err != nil {
			return i, ended(ctx, i, goal, err)
		}
		if err := tell(w, e, start); err != nil {
			return i, err
		}
	}
}

// ended says why no more history came.
func ended(ctx context.Context, i adminclient.Instance, goal string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("waiting for %s to be %s, it is %s (%s): %w", i.ID, goal, i.State, i.Reason, ctx.Err())
	}
	return cli.Unreachable(fmt.Errorf("following the history: %w", err))
}

var errUnderWay = errors.New("under way")

// arrived is nil in the state goal, and errUnderWay while that can still come.
func arrived(i adminclient.Instance, goal string) error {
	switch i.State {
	case goal:
		return nil
	case "quarantined":
		if goal == "deleted" {
			return errUnderWay
		}
		return cli.Refused(fmt.Errorf("instance %s is quarantined: %s", i.ID, i.Reason))
	case "failed":
		if goal == "deleted" {
			return errUnderWay
		}
		return cli.Hinted(fmt.Errorf("instance %s has failed: %s", i.ID, i.Reason), "`shed instance retry %s` tries again", i.ID)
	case "deleted":
		return cli.NotFound(fmt.Errorf("instance %s is deleted", i.ID))
	}
	return errUnderWay
}

// tell writes one event, unless it is from before.
func tell(w io.Writer, e adminclient.Event, start time.Time) error {
	if e.At.Before(start.Add(-time.Second)) {
		return nil
	}
	_, err := fmt.Fprintf(w, "%7.1fs  %-11s  %s\n", max(0, e.At.Sub(start).Seconds()), e.To, e.Reason)
	return err
}
