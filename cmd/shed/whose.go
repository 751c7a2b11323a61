package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// showVerified is showResult and whose machine it is.
func (c *relyingParty) showVerified(ctx context.Context, cmd *cobra.Command, session *client.Session) error {
	owner, err := c.whose(ctx, session)
	if err != nil {
		return err
	}
	if cli.WantsJSON(cmd) {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(struct {
			attest.AttestationResult
			Owner client.Whose `json:"owner"`
		}{session.Result, owner})
	}
	if err := writeAppraisal(cmd.OutOrStdout(), session.Result); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "owner: %s\n", describeOwner(owner, session.Evidence.Claim))
	return err
}

// whose asks with the keys that this client has, and draws none.
func (c *relyingParty) whose(ctx context.Context, session *client.Session) (client.Whose, error) {
	keys, err := c.state.DrawnKeys(rand.Reader)
	if err != nil {
		return "", err
	}
	owner, err := session.Whose(ctx, keys)
	if err != nil {
		return "", fmt.Errorf("asking whose machine it is: %w", refusedByMachine(err))
	}
	return owner, nil
}

func describeOwner(owner client.Whose, claim attest.Digest) string {
	switch owner {
	case client.Yours:
		return fmt.Sprintf("yours (claim %.16s…)", claim)
	case client.Anothers:
		return fmt.Sprintf("another's (claim %.16s…)", claim)
	default:
		return "nobody's yet"
	}
}
