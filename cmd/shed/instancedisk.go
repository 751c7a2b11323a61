package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

func newInstanceResizeCommand() *cobra.Command {
	var size string
	cmd := &cobra.Command{
		Use:   "resize INSTANCE --data SIZE",
		Short: "grow an instance's data disk; it never shrinks",
		Long:  instanceLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			bytes, err := parseSize(size)
			if err != nil {
				return cli.Usage(err)
			}
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if i, err = c.Resize(cmd.Context(), i.ID, bytes); err != nil {
				return err
			}
			return printInstance(cmd, i)
		}),
	}
	cmd.Flags().StringVar(&size, "data", "", "the size, such as 20GiB or a number of bytes")
	cobra.CheckErr(cmd.MarkFlagRequired("data"))
	return cmd
}

// parseSize reads a number of bytes, or of the unit behind it.
func parseSize(text string) (int64, error) {
	number, factor := text, int64(1)
	for unit, bytes := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			number, factor = strings.TrimSpace(rest), bytes
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<62/factor {
		return 0, fmt.Errorf("--data is %q, want a number of bytes, or one with MiB, GiB or TiB", text)
	}
	return n * factor, nil
}

const replaceLong = `replace gives an instance another machine, for one that is lost or whose TPM is. The
machine goes, its data disk is kept and becomes the other machine's, at the same
place. Nobody but the owner opens the data there: the instance is then
awaiting-owner, until the owner runs shed recover with the recovery key that they
claimed the first machine with. A machine that still serves its owner stops
doing so. On a terminal it asks first; elsewhere, or with --yes, it does not.

` + instanceLong

func newInstanceReplaceCommand() *cobra.Command {
	var w waitOptions
	var yes bool
	cmd := &cobra.Command{
		Use:   "replace INSTANCE",
		Short: "give an instance another machine with its data disk",
		Long:  replaceLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := confirm(cmd, "give instance "+i.ID+" another machine, which its owner has to unlock?"); err != nil {
					return err
				}
			}
			if i, err = c.Replace(cmd.Context(), i.ID); err != nil {
				return err
			}
			return w.finish(cmd, c, i, "awaiting-owner")
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.flags(cmd, "awaiting-owner")
	return cmd
}

const snapshotLong = `snapshot copies an instance's data disk as it is at that moment, as after a power
cut. The copy is as encrypted as the disk is: nobody but the owner's machine
reads it. ` + "`shed instance restore`" + ` sets the disk back to it, which the owner can tell.

` + instanceLong

// snapshotPoll is how often a copy that is under way is asked after.
const snapshotPoll = time.Second

func newInstanceSnapshotCommand() *cobra.Command {
	var remove string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "snapshot INSTANCE",
		Short: "copy an instance's data disk, or delete such a copy",
		Long:  snapshotLong,
		Args:  cobra.ExactArgs(1),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if remove != "" {
				if err := c.DeleteSnapshot(cmd.Context(), i.ID, remove); err != nil {
					return err
				}
				return cli.PrintResult(cmd, adminclient.Snapshot{ID: remove}, "deleted snapshot %s\n", remove)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			s, err := takeSnapshot(ctx, c, i.ID, strings.ToLower(rand.Text()))
			if err != nil {
				return err
			}
			return cli.PrintResult(cmd, s, "snapshot %s of instance %s\n", s.ID, i.ID)
		}),
	}
	cmd.Flags().StringVar(&remove, "delete", "", "delete this snapshot")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to stay at most until the copy is complete")
	return cmd
}

var errSnapshot = errors.New("the snapshot is not complete yet")

func takeSnapshot(ctx context.Context, c *adminclient.Client, instance, id string) (adminclient.Snapshot, error) {
	tick := time.NewTicker(snapshotPoll)
	defer tick.Stop()
	for {
		s, err := c.TakeSnapshot(ctx, instance, id)
		if err != nil || s.Complete {
			return s, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, errors.Join(fmt.Errorf("%w: %s", errSnapshot, id), ctx.Err())
		}
	}
}

const restoreInstanceLong = `restore sets an instance's data disk back to a snapshot: its machine is switched
off, and comes up with what it knew then. What was written since is lost. On a
terminal it asks first; elsewhere, or with --yes, it does not.

` + instanceLong

func newInstanceRestoreCommand() *cobra.Command {
	var w waitOptions
	var yes bool
	cmd := &cobra.Command{
		Use:   "restore INSTANCE SNAPSHOT",
		Short: "set an instance's data disk back to a snapshot",
		Long:  restoreInstanceLong,
		Args:  cobra.ExactArgs(2),
		RunE: asOperator(func(cmd *cobra.Command, c *adminclient.Client, args []string) error {
			i, err := c.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if !yes {
				if err := confirm(cmd, "set the data of instance "+i.ID+" back to "+args[1]+"?"); err != nil {
					return err
				}
			}
			if i, err = c.RestoreSnapshot(cmd.Context(), i.ID, args[1]); err != nil {
				return err
			}
			return w.finish(cmd, c, i, "ready")
		}),
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	w.flags(cmd, "ready")
	return cmd
}
