package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// updateFlags are what a claim allows the machine to do about new releases.
type updateFlags struct {
	standing bool
	delay    time.Duration
}

const updatesHelp = `
The claim says once and for good what lets a new release have your data: by
default your approval of each (shed update approve). With --standing-updates the
machine takes by itself each release that your keys, log and witnesses vouch for
and that is no older, once it has known it for --update-delay: time for you to
hear of one that is bad, and for its withdrawal.
`

// maxUpdateDelay is a year, the most that a claim says.
const maxUpdateDelay = 366 * 24 * time.Hour

func (f *updateFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.standing, "standing-updates", false, "let the machine take releases that your policy vouches for, without asking")
	cmd.Flags().DurationVar(&f.delay, "update-delay", 24*time.Hour, "with --standing-updates: how long it has to have known a release")
}

// chosen is what the flags say. The error is one of usage.
func (f *updateFlags) chosen(cmd *cobra.Command) (client.Updates, error) {
	switch {
	case !f.standing && cmd.Flags().Changed("update-delay"):
		return client.Updates{}, cli.Usage(errors.New("--update-delay goes with --standing-updates"))
	case !f.standing:
		return client.Updates{}, nil
	case f.delay < 0 || f.delay > maxUpdateDelay || f.delay%time.Second != 0:
		return client.Updates{}, cli.Usage(fmt.Errorf("--update-delay is %s, want whole seconds up to %s", f.delay, maxUpdateDelay))
	}
	return client.Updates{Standing: true, Delay: f.delay}, nil
}
