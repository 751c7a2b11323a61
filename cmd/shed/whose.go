package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
)

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
