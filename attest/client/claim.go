package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Claim makes the session's machine the owner's, and verifies that it says so
// itself. A machine that holds a claim of the same owner already is fine: an
// earlier try may have been cut short. A foreign claim is attest.ErrClaim; what
// the machine does not do, or cannot, is a *channel.StatusError.
func (s *Session) Claim(ctx context.Context, keys Keys) error {
	if !s.Evidence.Claim.IsZero() {
		return s.ownClaim(ctx, keys)
	}
	c, err := s.newClaim(ctx, keys)
	if err != nil {
		return err
	}
	if _, err := s.call(ctx, "POST", channel.ClaimPath, c.Encode(), channel.MaxRequestBytes); err != nil {
		return fmt.Errorf("claiming: %w", err)
	}
	return s.holds(ctx, c.Digest())
}

// newClaim signs a claim that answers a nonce of this connection.
func (s *Session) newClaim(ctx context.Context, keys Keys) (*ownership.Claim, error) {
	nonce, err := s.call(ctx, "GET", channel.ClaimPath, nil, channel.MaxRequestBytes)
	if err != nil {
		return nil, fmt.Errorf("asking for a claim's nonce: %w", err)
	}
	if len(nonce) != len(attest.Nonce{}) {
		return nil, fmt.Errorf("%w: the claim's nonce has %d bytes", attest.ErrMalformed, len(nonce))
	}
	update, err := s.trust.updatePolicy()
	if err != nil {
		return nil, err
	}
	c, err := ownership.Sign(keys.Owner, ownership.Body{
		AKName: s.Evidence.AK, Nonce: attest.Nonce(nonce), Update: update, Recovery: keys.recipient(),
	})
	if err != nil {
		return nil, fmt.Errorf("signing the claim: %w", err)
	}
	return c, nil
}

// holds verifies the machine once more, and that it shows a claim.
func (s *Session) holds(ctx context.Context, claim attest.Digest) error {
	if err := s.Verify(ctx); err != nil {
		return fmt.Errorf("verifying the claimed machine: %w", err)
	}
	if s.Evidence.Claim != claim {
		return fmt.Errorf("%w: the machine shows another claim than the one it took", attest.ErrClaim)
	}
	return nil
}

// ownClaim asks for the claim that the evidence shows the digest of. The
// machine hands it to its owner alone, which is the first of the answers.
func (s *Session) ownClaim(ctx context.Context, keys Keys) error {
	document, err := s.ask(ctx, keys, channel.ClaimDocumentPath, ownership.MaxBytes)
	var status *channel.StatusError
	if errors.As(err, &status) && status.Code == http.StatusUnauthorized {
		return ErrAnothers
	}
	if err != nil {
		return err
	}
	c, err := ownership.Parse(document)
	if err != nil {
		return err
	}
	switch {
	case c.Digest() != s.Evidence.Claim:
		return fmt.Errorf("%w: the document is not the claim that was measured", attest.ErrClaim)
	case !bytes.Equal(c.Body.Owner[:], keys.Owner.Public().(ed25519.PublicKey)):
		return ErrAnothers
	case !bytes.Equal(c.Body.AKName, s.Evidence.AK):
		return fmt.Errorf("%w: it was made for another machine", attest.ErrClaim)
	}
	return nil
}

// Output is the latest of what the machine's payload printed, at most
// MaxOutputBytes. The error is a *channel.StatusError where the machine does
// not take the keys for its owner's.
func (s *Session) Output(ctx context.Context, keys Keys) ([]byte, error) {
	return s.ask(ctx, keys, channel.OutputPath, channel.MaxOutputBytes)
}

// ask sends a GET with the owner's token for this connection.
func (s *Session) ask(ctx context.Context, keys Keys, target string, limit int64) ([]byte, error) {
	req, err := s.Conn.Request(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(ownership.Header, s.Token(keys))
	return s.Conn.Do(req, limit)
}

// Token is the ownership.Header for requests on this session's connection.
func (s *Session) Token(keys Keys) string { return ownership.Token(keys.Owner, s.Conn.Channel) }
