package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Digest is a SHA-256 digest. Its text form is 64 lowercase hex digits.
type Digest [sha256.Size]byte

// ReleaseDigest names a release: the SHA-256 of its manifest's bytes.
type ReleaseDigest Digest

// Nonce is the verifier's 32 fresh bytes.
type Nonce [32]byte

// Sum is the SHA-256 of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

func (d Digest) String() string        { return hex.EncodeToString(d[:]) }
func (d ReleaseDigest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d is unset.
func (d Digest) IsZero() bool { return d == Digest{} }

// IsZero reports whether d is unset.
func (d ReleaseDigest) IsZero() bool { return d == ReleaseDigest{} }

// MarshalText writes d as lowercase hex.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText writes d as lowercase hex.
func (d ReleaseDigest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads exactly 64 hex digits. The error says what is not.
func (d *Digest) UnmarshalText(text []byte) error { return decodeHex(d[:], text) }

// UnmarshalText reads exactly 64 hex digits. The error says what is not.
func (d *ReleaseDigest) UnmarshalText(text []byte) error { return decodeHex(d[:], text) }

// ParseReleaseDigest reads exactly 64 hex digits. The error says what is not.
func ParseReleaseDigest(s string) (ReleaseDigest, error) {
	var d ReleaseDigest
	return d, d.UnmarshalText([]byte(s))
}

func decodeHex(dst, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("digest has %d characters, want %d hex digits", len(text), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("digest is not hex: %w", err)
	}
	return nil
}
