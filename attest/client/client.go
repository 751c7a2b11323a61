// Package client is the owner's side: what their client trusts, what it
// remembers of their machines, and how it verifies, claims and talks to them.
//
// Invariants: nothing is sent to a machine before it has been verified on the
// very connection that carries it; trust in a session expires; what was once
// accepted of a machine (its key, its claim, the highest epoch) is never
// silently replaced.
package client

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/tpm"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Trust is all that a client has to know beforehand.
type Trust struct {
	// ReleaseKey signs releases.
	ReleaseKey crypto.PublicKey
	// TrustAnchors vouch for endorsement keys.
	TrustAnchors []verifier.TrustAnchor
	MinimumTier  attest.Tier
	Now          func() time.Time
	Rand         io.Reader
}

// Pin is what was accepted of a machine before.
type Pin struct {
	// AK is the TPM name of its attestation key.
	AK []byte        `json:"ak"`
	EK attest.Digest `json:"ek"`
	// Claim is the digest of the owner's claim on it.
	Claim attest.Digest `json:"claim"`
	// Epoch is the highest epoch that was accepted.
	Epoch uint64 `json:"epoch"`
	// Seen is when it was last accepted.
	Seen time.Time `json:"seen"`
}

// Session is a verified connection.
type Session struct {
	Conn   *channel.Conn
	Result verifier.Result
	// Release is the manifest that the machine's registers match.
	Release *release.Manifest
	// VerifiedAt is when the evidence was appraised.
	VerifiedAt time.Time

	trust Trust
	pin   *Pin
}

// RefusedError is a machine that proves what it is and is not what is
// accepted.
type RefusedError struct{ Result attest.AttestationResult }

func (e *RefusedError) Error() string {
	for _, f := range e.Result.Findings {
		if f.Verdict >= attest.Contraindicated {
			return fmt.Sprintf("the machine is refused: %s: %s", f.Dimension, f.Reason)
		}
	}
	return "the machine is refused: what must be established is not"
}

// Unwrap makes it an attest.ErrRefused, and attest.ErrRegisters where one
// differs.
func (e *RefusedError) Unwrap() error {
	if len(e.Result.Differs) > 0 {
		return attest.ErrRegisters
	}
	return attest.ErrRefused
}

// Connect opens a connection to the machine and verifies it. pin is nil for a
// machine that was not accepted before. Where the evidence verifies but is not
// accepted, the error is a *RefusedError.
func (t Trust) Connect(ctx context.Context, machine *url.URL, pin *Pin) (*Session, error) {
	conn, err := channel.Dial(ctx, machine)
	if err != nil {
		return nil, err
	}
	s := &Session{Conn: conn, trust: t, pin: pin}
	if err := s.Verify(ctx); err != nil {
		conn.Close() //nolint:errcheck // it is given up
		return nil, err
	}
	return s, nil
}

// Verify asks for fresh evidence on the session's connection and appraises it.
func (s *Session) Verify(ctx context.Context) error {
	var nonce attest.Nonce
	if _, err := io.ReadFull(s.trust.Rand, nonce[:]); err != nil {
		return fmt.Errorf("drawing a nonce: %w", err)
	}
	b, err := s.Conn.Call(ctx, "GET", channel.EvidencePath+"?nonce="+hex.EncodeToString(nonce[:]), "", nil, evidence.MaxBytes)
	if err != nil {
		return notAMachine(err)
	}
	e, err := evidence.Decode(b)
	if err != nil {
		return err
	}
	manifest, digest, err := s.release(e.ReferenceValues)
	if err != nil {
		return err
	}
	in := verifier.Input{Evidence: b, Nonce: nonce, Channel: s.Conn.Channel}
	p := verifier.Policy{
		TrustAnchors: s.trust.TrustAnchors, MinimumTier: s.trust.MinimumTier, Now: s.trust.Now(),
		Releases: map[attest.ReleaseDigest]*release.Manifest{digest: manifest},
	}
	if s.pin != nil {
		p.EpochFloor = s.pin.Epoch
	}
	// The binding and the quote are checked before the machine is asked for
	// anything more.
	if _, err := verifier.Appraise(in, p); err != nil {
		return err
	}
	if in.Activation, err = s.activation(ctx, e.TPM); err != nil {
		return err
	}
	result, err := verifier.Appraise(in, p)
	if err != nil {
		return err
	}
	if err := s.accept(result); err != nil {
		return err
	}
	s.Result, s.Release, s.VerifiedAt = result, manifest, p.Now
	return nil
}

// release verifies the release that the machine shows. Whose word brought it
// here does not matter: the key decides.
func (s *Session) release(shown evidence.ReferenceValues) (*release.Manifest, attest.ReleaseDigest, error) {
	if len(shown.Manifest) == 0 {
		return nil, attest.ReleaseDigest{}, fmt.Errorf("%w: the machine shows no signed release; it may not have enrolled yet", attest.ErrRelease)
	}
	return release.Verify(shown.Manifest, shown.Bundle, s.trust.ReleaseKey)
}

// activation recognizes the pinned attestation key, or makes the machine prove
// here and now that its key lives beside the endorsement key.
func (s *Session) activation(ctx context.Context, shown evidence.TPM) (verifier.Activation, error) {
	challenge, err := tpm.NewChallenge(s.trust.Rand, shown.EKCertificate, shown.AKPublic)
	if err != nil {
		return verifier.NotActivated, err
	}
	if s.pin != nil {
		if !bytes.Equal(challenge.AKName, s.pin.AK) || challenge.EK != s.pin.EK {
			return verifier.NotActivated, fmt.Errorf("%w: this is another machine than the one accepted before", attest.ErrIdentity)
		}
		return verifier.ActivatedBefore, nil
	}
	body, err := canon.Marshal(channel.ActivationRequest{
		CredentialBlob: challenge.CredentialBlob, EncryptedSecret: challenge.EncryptedSecret,
	})
	if err != nil {
		return verifier.NotActivated, fmt.Errorf("encoding activation request: %w", err)
	}
	secret, err := s.Conn.Call(ctx, "POST", channel.ActivationPath, channel.ContentType, bytes.NewReader(body), channel.MaxRequestBytes)
	if err != nil {
		return verifier.NotActivated, notAMachine(err)
	}
	if err := challenge.Answered(secret); err != nil {
		return verifier.NotActivated, err
	}
	return verifier.ActivatedHere, nil
}

func (s *Session) accept(result verifier.Result) error {
	if !result.Appraisal.Accepted() {
		return &RefusedError{Result: result.Appraisal}
	}
	if s.pin != nil && !s.pin.Claim.IsZero() && result.Facts.Claim != s.pin.Claim {
		return fmt.Errorf("%w: the machine no longer holds your claim", attest.ErrClaim)
	}
	return nil
}

// Pin is what to remember of the session's machine.
func (s *Session) Pin() Pin {
	pin := Pin{
		AK: s.Result.Facts.AK, EK: s.Result.Facts.EK, Claim: s.Result.Facts.Claim,
		Epoch: s.Release.Epoch, Seen: s.VerifiedAt,
	}
	if s.pin != nil {
		pin.Epoch = max(pin.Epoch, s.pin.Epoch)
	}
	return pin
}

// Close ends the session.
func (s *Session) Close() error { return s.Conn.Close() }

// notAMachine turns an answer that no machine of ours gives into a refusal;
// what the network did stays what it is.
func notAMachine(err error) error {
	var status *channel.StatusError
	if errors.As(err, &status) {
		return fmt.Errorf("%w: this is no shed machine: %w", attest.ErrMalformed, err)
	}
	return err
}
