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
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Trust is all that a client has to know beforehand.
type Trust struct {
	// ReleaseKey signs releases.
	ReleaseKey crypto.PublicKey
	// Policy is what is accepted of a machine; its Releases, Transparency and
	// Now are set for each verification. Its EpochFloor refuses older releases
	// of ReleaseKey, on whatever machine (ClientState.EpochFloor).
	Policy verifier.Policy
	// Log says which transparency log has to vouch for releases. Learn is told
	// what there is to remember of it, also of a machine that is refused.
	Log   release.LogPolicy
	Learn func(release.Memory) error
	// Verifier keeps what it parsed between verifications; one is enough for
	// all machines.
	Verifier *verifier.Verifier
	Now      func() time.Time
	Rand     io.Reader
}

// Pin is what was accepted of a machine before.
type Pin struct {
	// AK is the TPM name of its attestation key.
	AK []byte        `json:"ak"`
	EK attest.Digest `json:"ek"`
	// Claim is the digest of the owner's claim on it.
	Claim attest.Digest `json:"claim"`
	// Seen is when it was last accepted.
	Seen time.Time `json:"seen"`
}

// Session is a verified connection.
type Session struct {
	Conn *channel.Conn
	// Evidence is what the machine proved, Result what was made of it.
	Evidence *verifier.Verified
	Result   attest.AttestationResult
	// Release is the manifest that the machine's registers match, Logged what
	// vouches for it.
	Release *release.Manifest
	Logged  release.Logged
	// VerifiedAt is when the evidence was appraised.
	VerifiedAt time.Time

	trust Trust
	pin   *Pin
}

// ErrBusy says that the machine had no time for an answer for as long as the
// caller would wait. It says nothing about the machine.
var ErrBusy = errors.New("the machine is busy")

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
// accepted, the error is a *RefusedError; otherwise as Session.Verify.
func (t Trust) Connect(ctx context.Context, machine *url.URL, pin *Pin) (*Session, error) {
	conn, err := channel.Dial(ctx, machine)
	if err != nil {
		return nil, err
	}
	return t.over(ctx, conn, pin)
}

// over verifies the machine on a connection, which it closes where it fails.
func (t Trust) over(ctx context.Context, conn *channel.Conn, pin *Pin) (*Session, error) {
	s := &Session{Conn: conn, trust: t, pin: pin}
	if err := s.Verify(ctx); err != nil {
		conn.Close() //nolint:errcheck // it is given up
		return nil, err
	}
	return s, nil
}

// Verify asks for fresh evidence on the session's connection and appraises it.
// Errors are those of verifier.Verify and release.VerifyLogged, attest.ErrIdentity,
// attest.ErrClaim, a *RefusedError, ErrBusy, or the network's.
func (s *Session) Verify(ctx context.Context) error {
	var nonce attest.Nonce
	if _, err := io.ReadFull(s.trust.Rand, nonce[:]); err != nil {
		return fmt.Errorf("drawing a nonce: %w", err)
	}
	b, err := s.prove(ctx, "GET", channel.EvidencePath+"?nonce="+hex.EncodeToString(nonce[:]), nil, evidence.MaxBytes)
	if err != nil {
		return err
	}
	v, err := s.trust.Verifier.Verify(b, nonce, s.Conn.Channel)
	if err != nil {
		return err
	}
	logged, err := s.release(v.ReferenceValues)
	if err != nil {
		return err
	}
	activation, err := s.activation(ctx, v)
	if err != nil {
		return err
	}
	// The clock is the host's, or the network's, to set back: the witnesses' and
	// what was seen before are a floor.
	at := s.trust.Now()
	p := s.trust.Policy
	p.Now = s.trust.Log.Now(at, logged)
	p.Releases = map[attest.ReleaseDigest]*release.Manifest{logged.Digest: logged.Manifest}
	p.Transparency = logged.Transparency(p.Now)
	result, err := verifier.Appraise(v, activation, p)
	if err != nil {
		return err
	}
	if err := s.accept(v, result); err != nil {
		return err
	}
	s.Evidence, s.Result, s.Release, s.Logged = v, result, logged.Manifest, logged
	s.VerifiedAt = at
	return nil
}

// release verifies the release that the machine shows, and what the log says of
// it. Whose word brought it here does not matter: keys decide.
func (s *Session) release(shown evidence.ReferenceValues) (release.Logged, error) {
	if len(shown.Manifest) == 0 {
		return release.Logged{}, fmt.Errorf("%w: the machine shows no signed release; it may not have enrolled yet", attest.ErrRelease)
	}
	logged, err := release.VerifyLogged(shown.Manifest, shown.Bundle, shown.Proof,
		[]crypto.PublicKey{s.trust.ReleaseKey}, s.trust.Log, s.trust.Now())
	// What was learned holds for this session's next verification too.
	s.trust.Log.Memory = s.trust.Log.Memory.Merge(logged.Learned)
	if s.trust.Learn != nil && !logged.Learned.IsZero() {
		err = errors.Join(err, s.trust.Learn(logged.Learned))
	}
	return logged, err
}

// activation recognizes the pinned attestation key, or makes the machine prove
// here and now that its key lives beside the endorsement key.
func (s *Session) activation(ctx context.Context, v *verifier.Verified) (verifier.Activation, error) {
	if s.pin != nil {
		if !bytes.Equal(v.AK, s.pin.AK) || v.EK != s.pin.EK {
			return verifier.NotActivated, fmt.Errorf("%w: this is another machine than the one accepted before", attest.ErrIdentity)
		}
		return verifier.ActivatedBefore, nil
	}
	if v.EK.IsZero() {
		// Who vouches for the attestation key then, the appraisal says.
		return verifier.NotActivated, nil
	}
	challenge, err := v.Challenge(s.trust.Rand)
	if err != nil {
		return verifier.NotActivated, err
	}
	body, err := canon.Marshal(channel.ActivationRequest{
		CredentialBlob: challenge.CredentialBlob, EncryptedSecret: challenge.EncryptedSecret,
	})
	if err != nil {
		return verifier.NotActivated, fmt.Errorf("encoding activation request: %w", err)
	}
	answer, err := s.prove(ctx, "POST", channel.ActivationPath, body, channel.MaxRequestBytes)
	if err != nil {
		return verifier.NotActivated, err
	}
	if err := challenge.Answered(answer, s.Conn.Channel); err != nil {
		return verifier.NotActivated, err
	}
	return verifier.ActivatedHere, nil
}

func (s *Session) accept(v *verifier.Verified, result attest.AttestationResult) error {
	if !result.Accepted() {
		return &RefusedError{Result: result}
	}
	if s.pin != nil && !s.pin.Claim.IsZero() && v.Claim != s.pin.Claim {
		return fmt.Errorf("%w: the machine no longer holds your claim", attest.ErrClaim)
	}
	return nil
}

// Pin is what to remember of the session's machine.
func (s *Session) Pin() Pin {
	return Pin{AK: s.Evidence.AK, EK: s.Evidence.EK, Claim: s.Evidence.Claim, Seen: s.VerifiedAt}
}

// Close ends the session.
func (s *Session) Close() error { return s.Conn.Close() }

// retryAfter is how long a busy machine is left alone at the least where it
// does not say, and at the most whatever it says.
const (
	minRetry = 50 * time.Millisecond
	maxRetry = 5 * time.Second
)

// prove is call where every machine of ours that is not busy has an answer: any
// other is attest.ErrMalformed.
func (s *Session) prove(ctx context.Context, method, target string, body []byte, limit int64) ([]byte, error) {
	answer, err := s.call(ctx, method, target, body, limit)
	var status *channel.StatusError
	if errors.As(err, &status) {
		return nil, fmt.Errorf("%w: this is no shed machine: %w", attest.ErrMalformed, err)
	}
	return answer, err
}

// call asks the machine, and waits while it says that it is busy. Errors are
// ErrBusy, a *channel.StatusError, or the network's.
func (s *Session) call(ctx context.Context, method, target string, body []byte, limit int64) ([]byte, error) {
	for {
		answer, err := s.Conn.Call(ctx, method, target, channel.ContentType, body, limit)
		var status *channel.StatusError
		if !errors.As(err, &status) || status.Code != http.StatusServiceUnavailable {
			return answer, err
		}
		// Callers that were turned away together do not come back together.
		wait := min(max(status.RetryAfter, minRetry), maxRetry)
		wait = wait/2 + mathrand.N(wait/2)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
		case <-time.After(wait):
		}
	}
}
