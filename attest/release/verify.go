package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// maxKeyBytes caps a PEM public key.
const maxKeyBytes = 8 << 10

// Verify checks the bundle's signature over the manifest with key, and only
// then reads the manifest. The digest is that of the bytes as signed. Errors
// match attest.ErrMalformed, attest.ErrSignature, attest.ErrRelease or, where
// key is none that can verify, attest.ErrPolicy.
func Verify(manifest, bundle []byte, key crypto.PublicKey) (*Manifest, attest.ReleaseDigest, error) {
	if err := checkKey(key); err != nil {
		return nil, attest.ReleaseDigest{}, fmt.Errorf("%w: release key: %w", attest.ErrPolicy, err)
	}
	if len(manifest) > MaxManifestBytes {
		return nil, attest.ReleaseDigest{}, malformed("manifest has %d bytes, at most %d", len(manifest), MaxManifestBytes)
	}
	b, err := parseBundle(bundle)
	if err != nil {
		return nil, attest.ReleaseDigest{}, err
	}
	digest := attest.Sum(manifest)
	if err := b.check(manifest, digest, key); err != nil {
		return nil, attest.ReleaseDigest{}, err
	}
	m, err := ParseManifest(manifest)
	if err != nil {
		return nil, attest.ReleaseDigest{}, err
	}
	return m, attest.ReleaseDigest(digest), nil
}

// VerifyMessage checks the bundle's signature over any message with key. Errors
// are Verify's.
func VerifyMessage(message, bundle []byte, key crypto.PublicKey) error {
	if err := checkKey(key); err != nil {
		return fmt.Errorf("%w: key: %w", attest.ErrPolicy, err)
	}
	b, err := parseBundle(bundle)
	if err != nil {
		return err
	}
	return b.check(message, attest.Sum(message), key)
}

// check trusts nothing that the bundle says of itself: its digest and its hint
// only make for a better reason.
func (b *bundle) check(manifest []byte, digest attest.Digest, key crypto.PublicKey) error {
	if !bytes.Equal(b.MessageSignature.MessageDigest.Digest, digest[:]) {
		return fmt.Errorf("%w: the bundle signs %x, the manifest is %s",
			attest.ErrSignature, b.MessageSignature.MessageDigest.Digest, digest)
	}
	var ok bool
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, digest[:], b.MessageSignature.Signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, manifest, b.MessageSignature.Signature)
	}
	if !ok {
		return fmt.Errorf("%w: the manifest is not signed by the release key (the bundle names key %.80q)",
			attest.ErrSignature, b.VerificationMaterial.PublicKey.Hint)
	}
	return nil
}

// ParsePublicKey reads a release key: one PEM block "PUBLIC KEY" holding an
// ECDSA P-256 or Ed25519 key. Errors match attest.ErrMalformed.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	if len(text) > maxKeyBytes {
		return nil, malformed("public key has %d bytes, at most %d", len(text), maxKeyBytes)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, malformed("public key is not PEM")
	case block.Type != "PUBLIC KEY":
		return nil, malformed("public key is a PEM %.40q, want \"PUBLIC KEY\"", block.Type)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, malformed("public key is followed by other data")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, malformed("public key: %w", err)
	}
	if err := checkKey(key); err != nil {
		return nil, malformed("public key: %w", err)
	}
	return key, nil
}

func checkKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key == nil || key.Curve != elliptic.P256() {
			return fmt.Errorf("ECDSA key is not on P-256")
		}
		return nil
	case ed25519.PublicKey:
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("Ed25519 key has %d bytes, want %d", len(key), ed25519.PublicKeySize)
		}
		return nil
	default:
		return fmt.Errorf("%T is neither ECDSA P-256 nor Ed25519", key)
	}
}
