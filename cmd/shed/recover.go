package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// recoverOptions are what is accepted beside what is safe.
type recoverOptions struct{ unknownVolume, lowerTier bool }

func newRecoverCommand() *cobra.Command {
	var flags clientFlags
	var accept recoverOptions
	var updates updateFlags
	cmd := &cobra.Command{
		Use:   "recover URL",
		Short: "get your data back on a machine that stands in for a lost one",
		Long: `recover verifies the machine at URL as claim does, finds your volume on its data
disk, opens that volume's key with the recovery key in STATE/client, hands it to
the machine over the verified connection, and makes the machine yours. It opens
your data again too on your own machine whose TPM no longer does, for example
under another firmware. What was written last on the disk is what you get: who
runs the machine may have put an older copy there.

The volume has to be one that this client has seen, at claim or recover: a disk
that somebody else has made could have a key that they know. --unknown-volume
takes it all the same. And the machine has to show no less than the one that had
the data: who runs a lesser one may learn the key. --lower-tier takes it all the
same.
` + updatesHelp + clientHelp + `

Exits with 4 where the machine is refused, the volume is not yours, or none
waits there.`,
		Args: cobra.ExactArgs(1),
		RunE: flags.run(func(c *relyingParty, ctx context.Context, cmd *cobra.Command) error {
			var err error
			if c.trust.Updates, err = updates.chosen(cmd); err != nil {
				return err
			}
			return c.recover(ctx, cmd, accept)
		}),
	}
	cmd.Flags().BoolVar(&accept.unknownVolume, "unknown-volume", false, "take a volume that this client has never seen")
	cmd.Flags().BoolVar(&accept.lowerTier, "lower-tier", false, "take a machine that shows less than the one that had the data")
	flags.register(cmd)
	updates.register(cmd)
	return cmd
}

func (c *relyingParty) recover(ctx context.Context, cmd *cobra.Command, accept recoverOptions) error {
	keys, err := c.state.Keys(rand.Reader)
	if err != nil {
		return err
	}
	// The machine that was accepted at this address may be the one that is lost.
	session, err := c.sessionOf(ctx, cmd, nil)
	if err != nil {
		return err
	}
	defer session.Close()
	left, err := session.Left(ctx, keys)
	if err != nil {
		return refusedByMachine(err)
	}
	if err := c.trusts(session, left, accept); err != nil {
		return err
	}
	if err := session.Recover(ctx, keys, left); err != nil {
		return refusedByMachine(err)
	}
	if err := c.remember(ctx, session); err != nil {
		return err
	}
	if err := c.state.Remember(c.machine.Host, session.Pin()); err != nil {
		return err
	}
	if err := c.rememberVolume(ctx, session, keys); err != nil {
		return err
	}
	return showRecovery(cmd, c.machine.String(), session, left)
}

// trusts refuses a volume that the owner should not be given, or a machine that the
// owner should not give it to.
func (c *relyingParty) trusts(session *client.Session, left *channel.Left, accept recoverOptions) error {
	err := c.state.KnowsVolume(left)
	if accept.unknownVolume && errors.Is(err, client.ErrUnknownVolume) {
		err = nil
	}
	if err != nil {
		return cli.Hinted(err, "if the disk is yours and this client is new: shed recover --unknown-volume %s", c.machine)
	}
	err = c.state.MayHaveVolume(left, session.Result.Tiers)
	if accept.lowerTier && errors.Is(err, client.ErrLowerTier) {
		err = nil
	}
	if err != nil {
		return cli.Hinted(err, "if you moved to such machines yourself: shed recover --lower-tier %s", c.machine)
	}
	return nil
}

// rememberVolume keeps what the owner needs on the day when the machine is lost.
// What only stands on the disk, of a machine that waits for its owner, is no reason
// to trust it later.
func (c *relyingParty) rememberVolume(ctx context.Context, session *client.Session, keys client.Keys) error {
	left, err := session.Left(ctx, keys)
	if errors.Is(err, client.ErrNothingLeft) {
		return nil
	}
	if err != nil || !left.Vouched {
		return err
	}
	return c.state.RememberVolume(left, session.Result.Tiers)
}

func showRecovery(cmd *cobra.Command, url string, session *client.Session, left *channel.Left) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
			"url": url, "claim": session.Evidence.Claim, "volume": fmt.Sprintf("%x", left.Volume), "appraisal": session.Result,
		})
	}
	if err := writeAppraisal(cmd.OutOrStdout(), session.Result); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "recovered: %s is yours, with volume %.8x… (claim %.16s…)\n", url, left.Volume, session.Evidence.Claim)
	return err
}
