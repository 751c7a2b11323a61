// Package ownership is the one-time, owner-signed binding of a machine to its
// owner, and the tokens that the owner's client signs from then on.
//
// Invariants: a claim names the machine's attestation key and the nonce that
// the machine drew for it, so that it fits one machine once; every signature
// covers a domain tag; a token is good for one connection only, whatever any
// clock says.
package ownership

import (
	"crypto/ed25519"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// Version is the only version of a claim. The first said nothing of what a new
// release has to show.
const Version = 2

// MaxBytes caps a signed claim. It is stored in an NV index of the TPM, which
// holds 2,048 bytes at the least (PC Client Platform TPM Profile, section 5.6.1).
const MaxBytes = 2048

// Body is what the owner signs.
type Body struct {
	Version uint64 `cbor:"1,keyasint"`
	// Owner is the owner's Ed25519 key.
	Owner [ed25519.PublicKeySize]byte `cbor:"2,keyasint"`
	// AKName is the TPM name (TPM 2.0 Part 1, section 16) of the machine's
	// attestation key: its algorithm and a SHA-256, 34 bytes.
	AKName []byte `cbor:"3,keyasint"`
	// Nonce was drawn by the machine for this claim.
	Nonce  attest.Nonce `cbor:"4,keyasint"`
	Update UpdatePolicy `cbor:"5,keyasint"`
	// Recovery is the owner's X25519 recipient for the second wrap of the
	// volume key.
	Recovery [32]byte `cbor:"6,keyasint"`
}

// Claim is a signed body.
type Claim struct {
	Body      Body
	Signature [ed25519.SignatureSize]byte
	encoded   []byte
}

type signed struct {
	Body      []byte `cbor:"1,keyasint"`
	Signature []byte `cbor:"2,keyasint"`
}

// Sign makes the claim that owner's key signs; body's Version and Owner are
// set from the constant and the key. The error is attest.ErrClaim where the
// body is not whole.
func Sign(owner ed25519.PrivateKey, body Body) (*Claim, error) {
	body.Version = Version
	copy(body.Owner[:], owner.Public().(ed25519.PublicKey))
	if err := body.check(); err != nil {
		return nil, err
	}
	b, err := canon.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding claim: %w", err)
	}
	signature := ed25519.Sign(owner, tagged(attest.TagClaim, b))
	encoded, err := canon.Marshal(signed{Body: b, Signature: signature})
	if err != nil {
		return nil, fmt.Errorf("encoding claim: %w", err)
	}
	if len(encoded) > MaxBytes {
		return nil, fmt.Errorf("%w: with all its update policy it has %d bytes, at most %d", attest.ErrClaim, len(encoded), MaxBytes)
	}
	return &Claim{Body: body, Signature: [ed25519.SignatureSize]byte(signature), encoded: encoded}, nil
}

// Parse reads a signed claim and verifies its signature. Errors are
// attest.ErrMalformed, attest.ErrSignature or attest.ErrClaim.
func Parse(b []byte) (*Claim, error) {
	var s signed
	if err := canon.Unmarshal("claim", b, MaxBytes, &s); err != nil {
		return nil, err
	}
	c := &Claim{encoded: b}
	if err := canon.Unmarshal("claim body", s.Body, MaxBytes, &c.Body); err != nil {
		return nil, err
	}
	if err := c.Body.check(); err != nil {
		return nil, err
	}
	if !ed25519.Verify(c.Body.Owner[:], tagged(attest.TagClaim, s.Body), s.Signature) {
		return nil, fmt.Errorf("%w: claim", attest.ErrSignature)
	}
	copy(c.Signature[:], s.Signature)
	return c, nil
}

func (b Body) check() error {
	switch {
	case b.Version != Version:
		return fmt.Errorf("%w: version %d, want %d", attest.ErrClaim, b.Version, Version)
	case len(b.AKName) != 34:
		return fmt.Errorf("%w: ak_name has %d bytes, want 34", attest.ErrClaim, len(b.AKName))
	case b.Recovery == [32]byte{}:
		return fmt.Errorf("%w: recovery recipient is unset", attest.ErrClaim)
	case !usableRecipient(b.Recovery):
		return fmt.Errorf("%w: recovery recipient is a point of low order", attest.ErrClaim)
	}
	return b.Update.check()
}

// Encode returns the signed claim's bytes.
func (c *Claim) Encode() []byte { return c.encoded }

// Digest is what goes into the machine's write-once NV index and PCR 15.
func (c *Claim) Digest() attest.Digest { return Digest(c.encoded) }

// Digest is the digest of a signed claim's bytes; zero for none.
func Digest(encoded []byte) attest.Digest {
	if len(encoded) == 0 {
		return attest.Digest{}
	}
	return attest.Sum(tagged(attest.TagClaim, encoded))
}

func tagged(tag string, b []byte) []byte {
	return append(append(make([]byte, 0, len(tag)+1+len(b)), tag+"\x00"...), b...)
}
