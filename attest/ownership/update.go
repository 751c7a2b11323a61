package ownership

import (
	"crypto/ed25519"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// UpdateConsent says who lets a new release open the owner's data.
type UpdateConsent uint8

const (
	// UpdateAsk asks the owner for each release.
	UpdateAsk UpdateConsent = 1
	// UpdateStanding takes every release that the policy's keys, log and
	// witnesses vouch for and that is no older, once its delay has passed.
	UpdateStanding UpdateConsent = 2
)

// Caps on an update policy. Keys and witnesses are few since all of a claim fits
// one NV index.
const (
	MaxUpdateKeys      = 4
	MaxUpdateWitnesses = 6
	maxReleaseKeyBytes = 128
	maxLogKeyBytes     = 256
	// maxUpdateSeconds is a year: what a delay and the age of a cosignature may
	// be at the most.
	maxUpdateSeconds = 366 * 24 * 60 * 60
)

// UpdatePolicy says what a release has to show to the machine, and whose word it
// takes, before the machine gives the data's key to it. It holds what the owner's
// client trusts at the claim, so that a host has no say in it.
type UpdatePolicy struct {
	Consent UpdateConsent `cbor:"1,keyasint"`
	// Keys sign releases, each a DER SubjectPublicKeyInfo.
	Keys [][]byte `cbor:"2,keyasint"`
	// Log and Witnesses are verifier keys (C2SP signed-note); Quorum is how many
	// witnesses must have cosigned, no longer ago than MaxAge, in seconds. All
	// four are empty where the owner asks for no log.
	Log       string   `cbor:"3,keyasint,omitempty"`
	Witnesses []string `cbor:"4,keyasint,omitempty"`
	Quorum    uint64   `cbor:"5,keyasint,omitempty"`
	MaxAge    uint64   `cbor:"6,keyasint,omitempty"`
	// Delay is for how long, in seconds, a release must have been in the log, by
	// what its witnesses said to this machine, before a standing policy takes it:
	// time for its owner to object. Without a log it is for how long this boot must
	// have known it.
	Delay uint64 `cbor:"7,keyasint,omitempty"`
}

func (p UpdatePolicy) check() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: update policy: %s", attest.ErrClaim, fmt.Sprintf(format, args...))
	}
	switch {
	case p.Consent != UpdateAsk && p.Consent != UpdateStanding:
		return refuse("consent %d is unknown", p.Consent)
	case len(p.Keys) == 0 || len(p.Keys) > MaxUpdateKeys:
		return refuse("%d release keys, want 1 to %d", len(p.Keys), MaxUpdateKeys)
	case len(p.Witnesses) > MaxUpdateWitnesses:
		return refuse("%d witnesses, at most %d", len(p.Witnesses), MaxUpdateWitnesses)
	case (p.Log == "") != (len(p.Witnesses) == 0) || (p.Log == "") != (p.Quorum == 0) || (p.Log == "") != (p.MaxAge == 0):
		return refuse("log, witnesses, quorum and maximum age go together")
	case p.Quorum > uint64(len(p.Witnesses)):
		return refuse("a quorum of %d of %d witnesses", p.Quorum, len(p.Witnesses))
	case p.MaxAge > maxUpdateSeconds || p.Delay > maxUpdateSeconds:
		return refuse("maximum age or delay is above %d s", maxUpdateSeconds)
	case p.Consent == UpdateAsk && p.Delay != 0:
		return refuse("a delay without a standing policy")
	}
	for n, key := range p.Keys {
		if len(key) == 0 || len(key) > maxReleaseKeyBytes {
			return refuse("release key %d has %d bytes, want 1 to %d", n+1, len(key), maxReleaseKeyBytes)
		}
	}
	for _, key := range append([]string{p.Log}, p.Witnesses...) {
		if len(key) > maxLogKeyBytes {
			return refuse("the key of the log or of a witness has %d characters, at most %d", len(key), maxLogKeyBytes)
		}
	}
	return nil
}

// ApprovalVersion is the only version of an approval.
const ApprovalVersion = 1

// MaxApprovalBytes caps a signed approval.
const MaxApprovalBytes = 512

// ApprovalBody is what the owner signs to let one release have the data that
// another has: design promise 12.
type ApprovalBody struct {
	Version uint64 `cbor:"1,keyasint"`
	// Claim is the digest of the claim that the data is under, so that the
	// approval is for one machine.
	Claim attest.Digest `cbor:"2,keyasint"`
	// Number counts the updates of the machine, so that an approval is good for
	// one: the release that it is updated from is no maker of keys afterwards.
	Number uint64 `cbor:"3,keyasint"`
	// From is attest.Registers.SealDigest of the release that hands over.
	From attest.Digest `cbor:"4,keyasint"`
	// Release and Epoch are those of the release that takes over.
	Release attest.ReleaseDigest `cbor:"5,keyasint"`
	Epoch   uint64               `cbor:"6,keyasint"`
}

// Approval is a signed body.
type Approval struct {
	Body    ApprovalBody
	encoded []byte
}

// Approve makes the approval that owner's key signs; body's Version is set. The
// error is attest.ErrClaim where the body is not whole.
func Approve(owner ed25519.PrivateKey, body ApprovalBody) (*Approval, error) {
	body.Version = ApprovalVersion
	if err := body.check(); err != nil {
		return nil, err
	}
	b, err := canon.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding approval: %w", err)
	}
	encoded, err := canon.Marshal(signed{Body: b, Signature: ed25519.Sign(owner, tagged(attest.TagApproval, b))})
	if err != nil {
		return nil, fmt.Errorf("encoding approval: %w", err)
	}
	return &Approval{Body: body, encoded: encoded}, nil
}

// ParseApproval reads a signed approval and verifies that the owner of c signed
// it for that claim. Errors are attest.ErrMalformed, attest.ErrSignature or
// attest.ErrClaim.
func ParseApproval(b []byte, c *Claim) (*Approval, error) {
	var s signed
	if err := canon.Unmarshal("approval", b, MaxApprovalBytes, &s); err != nil {
		return nil, err
	}
	a := &Approval{encoded: b}
	if err := canon.Unmarshal("approval body", s.Body, MaxApprovalBytes, &a.Body); err != nil {
		return nil, err
	}
	if !ed25519.Verify(c.Body.Owner[:], tagged(attest.TagApproval, s.Body), s.Signature) {
		return nil, fmt.Errorf("%w: approval", attest.ErrSignature)
	}
	if err := a.Body.check(); err != nil {
		return nil, err
	}
	if a.Body.Claim != c.Digest() {
		return nil, fmt.Errorf("%w: the approval is for claim %s", attest.ErrClaim, a.Body.Claim)
	}
	return a, nil
}

func (b ApprovalBody) check() error {
	switch {
	case b.Version != ApprovalVersion:
		return fmt.Errorf("%w: approval has version %d, want %d", attest.ErrClaim, b.Version, ApprovalVersion)
	case b.Claim.IsZero():
		return fmt.Errorf("%w: approval names no claim", attest.ErrClaim)
	case b.Number == 0:
		return fmt.Errorf("%w: approval has no number", attest.ErrClaim)
	case b.From.IsZero():
		return fmt.Errorf("%w: approval does not say from what", attest.ErrClaim)
	case b.Release.IsZero() || b.Epoch == 0:
		return fmt.Errorf("%w: approval names no release", attest.ErrClaim)
	}
	return nil
}

// Encode returns the signed approval's bytes.
func (a *Approval) Encode() []byte { return a.encoded }
