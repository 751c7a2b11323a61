package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

func newClaimCommand() *cobra.Command {
	var flags clientFlags
	var updates updateFlags
	cmd := &cobra.Command{
		Use:   "claim URL",
		Short: "verify a machine and make it yours, once and for good",
		Long: `claim verifies the machine at URL, makes it prove that its attestation key
lives beside its endorsement key, and signs a claim with the owner key, which is
made in STATE/client at the first claim. From then on the machine serves nobody
else and its attestation key is pinned here. Keep a copy of STATE/client.
` + updatesHelp + clientHelp + `

Exits with 4 where the machine is refused or belongs to somebody else.`,
		Args: cobra.ExactArgs(1),
		RunE: flags.run(func(c *relyingParty, ctx context.Context, cmd *cobra.Command) (err error) {
			if c.trust.Updates, err = updates.chosen(cmd); err != nil {
				return err
			}
			return c.claim(ctx, cmd)
		}),
	}
	flags.register(cmd)
	updates.register(cmd)
	return cmd
}

func (c *relyingParty) claim(ctx context.Context, cmd *cobra.Command) error {
	keys, err := c.state.Keys(rand.Reader)
	if err != nil {
		return err
	}
	session, err := c.session(ctx, cmd)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := session.Claim(ctx, keys); err != nil {
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
	return showClaim(cmd, c.machine.String(), session.Result, session.Evidence.Claim)
}

// refusedByMachine gives a machine's refusal the exit code of one.
func refusedByMachine(err error) error {
	var status *channel.StatusError
	if !errors.As(err, &status) {
		return err
	}
	switch status.Code {
	case http.StatusConflict, http.StatusForbidden, http.StatusUnauthorized:
	default:
		return err
	}
	if p, parseErr := problem.Parse(status.Code, status.Body); parseErr == nil {
		err = fmt.Errorf("%w: %.200s", err, p.Detail)
	}
	return cli.Refused(err)
}

func showClaim(cmd *cobra.Command, url string, a attest.AttestationResult, digest attest.Digest) error {
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"url": url, "claim": digest, "appraisal": a})
	}
	if err := writeAppraisal(cmd.OutOrStdout(), a); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "claimed: %s is yours (claim %.16s…)\n", url, digest)
	return err
}
