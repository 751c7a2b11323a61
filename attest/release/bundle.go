package release

import (
	"encoding/json"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// BundleMediaType is the one format of signature bundle that is read:
// Sigstore's, version 0.3.
const BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// maxSignatureBytes is well above any ECDSA P-256 or Ed25519 signature.
const maxSignatureBytes = 128

// bundle is as much of a Sigstore bundle as a signature by key needs. A
// certificate or a DSSE envelope is an unknown field here, and refused.
type bundle struct {
	MediaType            string               `json:"mediaType"`
	VerificationMaterial verificationMaterial `json:"verificationMaterial"`
	MessageSignature     *messageSignature    `json:"messageSignature"`
}

type verificationMaterial struct {
	PublicKey *keyHint `json:"publicKey"`
	// Log entries and timestamps are allowed and not judged here.
	TlogEntries               json.RawMessage `json:"tlogEntries"`
	TimestampVerificationData json.RawMessage `json:"timestampVerificationData"`
}

type keyHint struct {
	Hint string `json:"hint"`
}

type messageSignature struct {
	MessageDigest *messageDigest `json:"messageDigest"`
	Signature     []byte         `json:"signature"`
}

type messageDigest struct {
	Algorithm string `json:"algorithm"`
	Digest    []byte `json:"digest"`
}

func parseBundle(b []byte) (*bundle, error) {
	if len(b) > MaxBundleBytes {
		return nil, malformed("bundle has %d bytes, at most %d", len(b), MaxBundleBytes)
	}
	var parsed bundle
	if err := strictjson.Unmarshal(b, &parsed); err != nil {
		return nil, malformed("bundle: %w", err)
	}
	sig := parsed.MessageSignature
	switch {
	case parsed.MediaType != BundleMediaType:
		return nil, malformed("bundle.mediaType is %.80q, want %q", parsed.MediaType, BundleMediaType)
	case parsed.VerificationMaterial.PublicKey == nil:
		return nil, malformed("bundle.verificationMaterial.publicKey is missing: only signatures by key are read")
	case sig == nil:
		return nil, malformed("bundle.messageSignature is missing")
	case len(sig.Signature) == 0 || len(sig.Signature) > maxSignatureBytes:
		return nil, malformed("bundle.messageSignature.signature has %d bytes, want 1 to %d", len(sig.Signature), maxSignatureBytes)
	case sig.MessageDigest == nil || sig.MessageDigest.Algorithm != "SHA2_256":
		return nil, malformed("bundle.messageSignature.messageDigest is not SHA2_256")
	case len(sig.MessageDigest.Digest) != len(attest.Digest{}):
		return nil, malformed("bundle.messageSignature.messageDigest.digest has %d bytes, want %d",
			len(sig.MessageDigest.Digest), len(attest.Digest{}))
	}
	return &parsed, nil
}
