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
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// Trust is all that a client has to know beforehand.
type Trust struct {
	// ReleaseKey signs releases, and so do OtherKeys, of the same publisher.
	ReleaseKey crypto.PublicKey
	OtherKeys  []crypto.PublicKey
	// Policy is what is accepted of a machine; releases, transparency and time
	// in it are set for each verification. Its EpochFloor refuses older releases
	// of ReleaseKey, on whatever machine (ClientState.EpochFloor).
	Policy verifier.Policy
	// Verifier keeps what it parsed between verifications; one is enough for
	// all machines.
	Verifier *verifier.Verifier
	// Releases keeps the releases that were accepted; nil keeps none.
	Releases *release.Verifier
	// Log says which transparency log has to vouch for releases. Learn is told
	// what there is to remember of it, also of a machine that is refused.
	Log   release.LogPolicy
	Learn func(release.Memory) error
	// Updates is what a claim allows.
	Updates Updates
	// Captured is told what each verification was made from, also of a machine
	// that is refused; nil for nobody.
	Captured func(*bundle.Bundle) error
	Now      func() time.Time
	Rand     io.Reader

	// assumed says that Now is a time that was stated, and no clock's.
	assumed bool
}

// Pin is what was accepted of a machine before.
type Pin struct {
	// AK is the TPM name of its attestation key.
	AK []byte        `json:"ak"`
	EK attest.Digest `json:"ek"`
	// Claim is the digest of the owner's claim on it.
	Claim attest.Digest `json:"claim"`
	// Seen is when it was last accepted: the clock is never before it.
	Seen time.Time `json:"seen"`
}

// floored is the clock's time, or the last that the machine was accepted at. p may
// be nil.
func (p *Pin) floored(clock time.Time) time.Time {
	if p != nil && p.Seen.After(clock) {
		return p.Seen
	}
	return clock
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
	// VerifiedAt is when the evidence was asked for: what answers a nonce is as
	// old as the nonce, however late it arrives.
	VerifiedAt time.Time

	trust Trust
	pin   *Pin
}

// ErrBusy says that the machine had no time for an answer for as long as the
// caller would wait. It says nothing about the machine.
var ErrBusy = errors.New("the machine is busy")

// RefusedError is a machine that proves what it is and is not what is
// accepted.
type RefusedError struct {
	Result attest.AttestationResult
	// Evidence is what it proves.
	Evidence *verifier.Verified
}

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
// attest.ErrClaim, a *RefusedError, ErrBusy, or the network's. Once the TPM was
// reset they are attest.ErrStale for the rest of the connection.
func (s *Session) Verify(ctx context.Context) error {
	asked := s.trust.Now()
	var nonce attest.Nonce
	if _, err := io.ReadFull(s.trust.Rand, nonce[:]); err != nil {
		return fmt.Errorf("drawing a nonce: %w", err)
	}
	b, err := s.prove(ctx, "GET", channel.EvidencePath+"?nonce="+hex.EncodeToString(nonce[:]), nil, evidence.MaxBytes)
	if err != nil {
		return err
	}
	at := s.pin.floored(s.trust.Now())
	saved := s.captured(b, nonce, at)
	judged, err := s.trust.terms(at).Judge(saved.Given(), func(v *verifier.Verified) (verifier.Activation, error) {
		activation, err := s.activation(ctx, v)
		saved.Activation = bundle.ActivationOf(activation)
		return activation, err
	})
	if err := errors.Join(err, s.learn(judged.Logged.Learned), s.trust.capture(saved)); err != nil {
		return err
	}
	if err := s.booted(judged.Evidence); err != nil {
		return err
	}
	if err := s.accept(judged.Evidence, judged.Result); err != nil {
		return err
	}
	s.Evidence, s.Result, s.Release, s.Logged = judged.Evidence, judged.Result, judged.Logged.Manifest, judged.Logged
	s.VerifiedAt = asked
	return nil
}

// terms are what this client judges by at a time.
func (t Trust) terms(at time.Time) bundle.Terms {
	return bundle.Terms{Verifier: t.Verifier, Releases: t.Releases, Policy: t.Policy, Keys: t.Keys(), Log: t.Log, At: at}
}

// Keys are all that sign releases.
func (t Trust) Keys() []crypto.PublicKey {
	return append([]crypto.PublicKey{t.ReleaseKey}, t.OtherKeys...)
}

// learn keeps what the log said, for this session's next verification too.
func (s *Session) learn(m release.Memory) error {
	if m.IsZero() {
		return nil
	}
	s.trust.Log.Memory = s.trust.Log.Memory.Merge(m)
	if s.trust.Learn == nil {
		return nil
	}
	return s.trust.Learn(m)
}

// activation recognizes the pinned attestation key, or makes the machine prove
// here and now that its key lives beside the endorsement key.
func (s *Session) activation(ctx context.Context, v *verifier.Verified) (verifier.Activation, error) {
	if s.pin != nil {
		if err := s.pin.Recognize(v); err != nil {
			return verifier.NotActivated, err
		}
		return verifier.ActivatedBefore, nil
	}
	if v.EK.IsZero() {
		// Nothing is there to challenge: the policy says whether a cloud's word
		// for the key is enough.
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

// booted holds that the TPM was not reset since this connection was verified
// before: the machine at its other end has not booted since, so that whoever reset
// the TPM has measured what it shows. The error is attest.ErrStale.
func (s *Session) booted(v *verifier.Verified) error {
	if s.Evidence != nil && v.Resets != s.Evidence.Resets {
		return fmt.Errorf("%w: the machine's tpm was reset under this connection", attest.ErrStale)
	}
	return nil
}

func (s *Session) accept(v *verifier.Verified, result attest.AttestationResult) error {
	if !result.Accepted() {
		return &RefusedError{Result: result, Evidence: v}
	}
	if s.pin != nil {
		return s.pin.Holds(v)
	}
	return nil
}

// Recognize tells the machine that was accepted before from another. The error
// is attest.ErrIdentity.
func (p *Pin) Recognize(v *verifier.Verified) error {
	if !bytes.Equal(v.AK, p.AK) || v.EK != p.EK {
		return fmt.Errorf("%w: this is another machine than the one accepted before", attest.ErrIdentity)
	}
	return nil
}

// Holds reports whether the machine holds the claim that is pinned, where one
// is. The error is attest.ErrClaim.
func (p *Pin) Holds(v *verifier.Verified) error {
	if !p.Claim.IsZero() && v.Claim != p.Claim {
		return fmt.Errorf("%w: the machine no longer holds your claim", attest.ErrClaim)
	}
	return nil
}

// Pin is what to remember of the session's machine.
func (s *Session) Pin() Pin {
	return Pin{AK: s.Evidence.AK, EK: s.Evidence.EK, Claim: s.Evidence.Claim, Seen: s.pin.floored(s.VerifiedAt)}
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
