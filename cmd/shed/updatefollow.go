package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

const (
	// updatePoll is how often a machine is asked how far it is, and updateCall how
	// long one such look may take: what restarts answers nothing.
	updatePoll = time.Second
	updateCall = 20 * time.Second
)

// followUpdate stays until the machine runs the release, which it has to prove, or
// says that it does not come to that. Each look is a connection of its own, verified
// anew.
func (c *relyingParty) followUpdate(ctx context.Context, w io.Writer, keys client.Keys, digest attest.ReleaseDigest, shown *offeredRelease) error {
	start, last := time.Now(), ""
	say := func(line string) {
		if line != last {
			fmt.Fprintf(w, "%7.1fs  %s\n", time.Since(start).Seconds(), line)
			last = line
		}
	}
	for {
		over, line, err := c.lookAtUpdate(ctx, keys, digest, shown)
		switch {
		case err != nil && !over && !passing(err):
			return err
		case err != nil && !over:
			line = "the machine is not there: it restarts"
		}
		if line != "" {
			say(line)
		}
		if over {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the update, last seen: %s: %w", last, ctx.Err())
		case <-time.After(updatePoll):
		}
	}
}

// lookAtUpdate verifies the machine once, and says in a line where it is.
func (c *relyingParty) lookAtUpdate(ctx context.Context, keys client.Keys, digest attest.ReleaseDigest, shown *offeredRelease) (over bool, line string, err error) {
	ctx, cancel := context.WithTimeout(ctx, updateCall)
	defer cancel()
	pin, err := c.claimed()
	if err != nil {
		return true, "", err
	}
	s, err := c.trust.Connect(ctx, c.machine, pin)
	if err != nil {
		return false, "", err
	}
	defer s.Close()
	o, err := s.Offered(ctx, keys)
	if err != nil {
		return false, "", err
	}
	if err := c.remember(ctx, s); err != nil {
		return true, "", err
	}
	shown.Step, shown.Reason = string(o.Step), o.Reason
	shown.Running = runningRelease{Release: s.Logged.Digest.String(), Version: s.Release.Version, Epoch: s.Release.Epoch}
	line = fmt.Sprintf("verified on version %s: %s", s.Release.Version, o.Step)
	switch {
	case o.Release != digest:
		return true, line, cli.Refused(errors.New("the machine is offered another release meanwhile"))
	case o.Step == client.UpdateDone && s.Logged.Digest == digest:
		return true, line, nil
	case o.Step == client.UpdateRefused:
		return true, line, cli.Refused(fmt.Errorf("the machine refused the release: %s", first(updateReasons[o.Reason], o.Reason)))
	case o.Step == client.UpdateFellBack:
		return true, line, fmt.Errorf("the machine is back on version %s, with its data as it was: %s", s.Release.Version, first(updateReasons[o.Reason], o.Reason))
	}
	return false, line, nil
}

// passing says whether an error is what a machine that restarts looks like, which is
// there no more, not yet, or has not enrolled. What it proves is none.
func passing(err error) bool {
	return errors.Is(err, bundle.ErrShowsNone) || !errors.Is(err, attest.ErrRefused)
}
