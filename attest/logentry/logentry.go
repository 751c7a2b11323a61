// Package logentry is what stands in the transparency log: signed statements
// about releases and keys.
//
// Invariants: deterministic CBOR with an integer version, of which one spelling
// alone parses; an unknown version, kind or field is refused; the signature
// covers a domain tag, so that it never stands for a checkpoint, a cosignature
// or a manifest's. Parsing proves nothing: Verify names the key.
package logentry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// Version is the only version of an entry.
const Version = 1

// MaxBytes caps an entry.
const MaxBytes = 2 << 10

// tag begins what is signed. No note's text begins with it.
const tag = "shed/log-entry/1\x00"

// Caps on the fields, in bytes.
const (
	maxText      = 64
	maxKey       = 512
	maxSignature = 128
)

// Kind says what an entry states.
type Kind uint8

// The kinds.
const (
	KindRelease    Kind = 1
	KindWithdrawal Kind = 2
	KindRotation   Kind = 3
	KindAuditHead  Kind = 4
)

var kindNames = map[Kind]string{
	KindRelease: "release", KindWithdrawal: "withdrawal", KindRotation: "rotation", KindAuditHead: "audit-head",
}

func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Body is a statement: one of its kinds.
type Body struct {
	Version    uint64      `cbor:"1,keyasint"`
	Kind       Kind        `cbor:"2,keyasint"`
	Release    *Release    `cbor:"3,keyasint,omitempty"`
	Withdrawal *Withdrawal `cbor:"4,keyasint,omitempty"`
	Rotation   *Rotation   `cbor:"5,keyasint,omitempty"`
	AuditHead  *AuditHead  `cbor:"6,keyasint,omitempty"`
}

// Release says that a release was made. The release key signs it.
type Release struct {
	Manifest     attest.ReleaseDigest `cbor:"1,keyasint"`
	Version      string               `cbor:"2,keyasint"`
	Epoch        uint64               `cbor:"3,keyasint"`
	Architecture string               `cbor:"4,keyasint"`
}

// Withdrawal says that a release is no longer to be accepted. The release key
// signs it.
type Withdrawal struct {
	Manifest attest.ReleaseDigest `cbor:"1,keyasint"`
	Reason   Reason               `cbor:"2,keyasint"`
}

// Rotation says that one key takes another's place. The old one signs it.
type Rotation struct {
	Use Use `cbor:"1,keyasint"`
	// Old and New are a DER SubjectPublicKeyInfo for a release key, and the
	// text of a C2SP verifier key for a log or a witness.
	Old []byte `cbor:"2,keyasint"`
	New []byte `cbor:"3,keyasint"`
}

// AuditHead is the head of a control plane's log of attestation results. The
// control plane's key signs it.
type AuditHead struct {
	Head attest.Digest `cbor:"1,keyasint"`
	// Count is how many results there are up to it.
	Count uint64 `cbor:"2,keyasint"`
}

// Use says what a key is for.
type Use uint8

// The uses of a key that rotates.
const (
	UseRelease Use = 1
	UseLog     Use = 2
	UseWitness Use = 3
)

var useNames = [...]string{UseRelease: "release", UseLog: "log", UseWitness: "witness"}

func (u Use) String() string {
	if u >= UseRelease && u <= UseWitness {
		return useNames[u]
	}
	return fmt.Sprintf("use(%d)", uint8(u))
}

// MarshalText writes the use's name. The error says that it has none.
func (u Use) MarshalText() ([]byte, error) {
	if u < UseRelease || u > UseWitness {
		return nil, fmt.Errorf("key use %d is unknown", uint8(u))
	}
	return []byte(u.String()), nil
}

// UnmarshalText reads a use's name. The error names those there are.
func (u *Use) UnmarshalText(text []byte) error {
	for n := UseRelease; n <= UseWitness; n++ {
		if n.String() == string(text) {
			*u = n
			return nil
		}
	}
	return fmt.Errorf("key use %q is none of %v", text, useNames[UseRelease:])
}

// Reason says why a release was withdrawn.
type Reason uint8

// The reasons.
const (
	// ReasonVulnerable is a release that can be broken into.
	ReasonVulnerable Reason = 1
	// ReasonCompromised is a release that somebody else had a hand in.
	ReasonCompromised Reason = 2
	// ReasonFaulty is a release that does not work as it should.
	ReasonFaulty Reason = 3
	// ReasonSuperseded is a release that a later one has taken the place of.
	ReasonSuperseded Reason = 4
)

var reasonNames = [...]string{
	ReasonVulnerable: "vulnerable", ReasonCompromised: "compromised", ReasonFaulty: "faulty", ReasonSuperseded: "superseded",
}

func (r Reason) String() string {
	if r >= ReasonVulnerable && r <= ReasonSuperseded {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// ParseReason reads a reason's name. The error names those there are.
func ParseReason(name string) (Reason, error) {
	for r := ReasonVulnerable; r <= ReasonSuperseded; r++ {
		if r.String() == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("reason %q is none of %v", name, reasonNames[ReasonVulnerable:])
}

// Entry is a statement with its signature.
type Entry struct {
	Body Body `cbor:"1,keyasint"`
	// Signer is the SHA-256 of the signer's key, a hint for whoever looks for
	// it: of the bytes that Rotation has for such a key.
	Signer    attest.Digest `cbor:"2,keyasint"`
	Signature []byte        `cbor:"3,keyasint"`
}

// message is what is signed: the tag, then the body in its only encoding.
func (b Body) message() ([]byte, error) {
	encoded, err := canon.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encoding a log entry: %w", err)
	}
	return append([]byte(tag), encoded...), nil
}

// Sign makes an entry of a statement. key is the signer's as Rotation has it;
// sign signs a message, ECDSA P-256 over its SHA-256 in ASN.1 or Ed25519 over
// the message itself. Errors are sign's and attest.ErrMalformed.
func Sign(body Body, key []byte, sign func(message []byte) ([]byte, error)) (*Entry, error) {
	body.Version = Version
	message, err := body.message()
	if err != nil {
		return nil, err
	}
	signature, err := sign(message)
	if err != nil {
		return nil, fmt.Errorf("signing a log entry: %w", err)
	}
	e := &Entry{Body: body, Signer: attest.Sum(key), Signature: signature}
	return e, e.check()
}

// Encode is the entry's only encoding, as it stands in the log. It fails for no
// entry that Parse returns.
func (e *Entry) Encode() ([]byte, error) {
	b, err := canon.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding a log entry: %w", err)
	}
	return b, nil
}

// Parse reads what Encode wrote and nothing else. The error is
// attest.ErrMalformed.
func Parse(b []byte) (*Entry, error) {
	e := new(Entry)
	if err := canon.Unmarshal("log entry", b, MaxBytes, e); err != nil {
		return nil, err
	}
	return e, e.check()
}

// Verify checks the signature with an ECDSA P-256 or an Ed25519 key. The error
// is attest.ErrSignature.
func (e *Entry) Verify(key crypto.PublicKey) error {
	message, err := e.Body.message()
	if err != nil {
		return err
	}
	ok := false
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		hash := sha256.Sum256(message)
		ok = key != nil && key.Curve == elliptic.P256() && ecdsa.VerifyASN1(key, hash[:], e.Signature)
	case ed25519.PublicKey:
		ok = len(key) == ed25519.PublicKeySize && ed25519.Verify(key, message, e.Signature)
	}
	if !ok {
		return fmt.Errorf("%w: the log's entry of kind %s is not signed by this key", attest.ErrSignature, e.Body.Kind)
	}
	return nil
}

// MarshalKey is a release key as entries name it: a DER SubjectPublicKeyInfo
// (RFC 5280, section 4.1). Errors are those of an unknown kind of key.
func MarshalKey(key crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding a release key: %w", err)
	}
	return der, nil
}
