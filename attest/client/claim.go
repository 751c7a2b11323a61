package client

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Claim makes the session's machine the owner's, and verifies that it says so
// itself. A machine that holds a claim of the same owner already is fine: an
// earlier try may have been cut short. A foreign claim is attest.ErrClaim.
func (s *Session) Claim(ctx context.Context, keys Keys) error {
	if !s.Result.Facts.Claim.IsZero() {
		return s.ownClaim(keys)
	}
	nonce, err := s.Conn.Call(ctx, "GET", channel.ClaimPath, "", nil, channel.MaxRequestBytes)
	if err != nil {
		return fmt.Errorf("asking for a claim's nonce: %w", err)
	}
	if len(nonce) != len(attest.Nonce{}) {
		return fmt.Errorf("%w: the claim's nonce has %d bytes", attest.ErrMalformed, len(nonce))
	}
	c, err := ownership.Sign(keys.Owner, ownership.Body{
		AKName: s.Result.Facts.AK, Nonce: attest.Nonce(nonce), Update: ownership.UpdateAsk, Recovery: keys.recipient(),
	})
	if err != nil {
		return fmt.Errorf("signing the claim: %w", err)
	}
	if _, err := s.Conn.Call(ctx, "POST", channel.ClaimPath, channel.ContentType, bytes.NewReader(c.Encode()), channel.MaxRequestBytes); err != nil {
		return fmt.Errorf("claiming: %w", err)
	}
	if err := s.Verify(ctx); err != nil {
		return fmt.Errorf("verifying the claimed machine: %w", err)
	}
	if s.Result.Facts.Claim != c.Digest() {
		return fmt.Errorf("%w: the machine shows another claim than the one it took", attest.ErrClaim)
	}
	return nil
}

func (s *Session) ownClaim(keys Keys) error {
	c, err := ownership.Parse(s.Result.Facts.ClaimDocument)
	if err != nil {
		return err
	}
	if !bytes.Equal(c.Body.Owner[:], keys.Owner.Public().(ed25519.PublicKey)) {
		return fmt.Errorf("%w: the machine belongs to another owner", attest.ErrClaim)
	}
	return nil
}

// Token is the Authorization header for requests on this session's connection.
func (s *Session) Token(keys Keys) string { return ownership.Token(keys.Owner, s.Conn.Channel) }
