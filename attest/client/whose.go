package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Whose says whose machine a session's is, as this client sees it.
type Whose string

// The answers. Who another owner is, no machine tells.
const (
	Yours    Whose = "yours"
	Anothers Whose = "another"
	Nobodys  Whose = "nobody"
)

// Whose compares the claim that was measured with what was accepted before, or,
// on a machine that this client has not claimed, asks for the document that the
// machine shows its owner alone. keys are nil where this client has none yet.
// Errors are the network's, and attest.ErrMalformed and attest.ErrClaim where
// the document is no claim, or not the one that was measured.
func (s *Session) Whose(ctx context.Context, keys *Keys) (Whose, error) {
	switch {
	case s.Evidence.Claim.IsZero():
		return Nobodys, nil
	case s.pin != nil && s.pin.Claim == s.Evidence.Claim:
		return Yours, nil
	case keys == nil:
		return Anothers, nil
	}
	err := s.ownClaim(ctx, *keys)
	if errors.Is(err, ErrAnothers) {
		return Anothers, nil
	}
	if err != nil {
		return "", err
	}
	return Yours, nil
}

// ErrAnothers says that a machine belongs to another owner. It is an
// attest.ErrClaim.
var ErrAnothers = fmt.Errorf("%w: the machine belongs to another owner", attest.ErrClaim)
