package ear

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// signatureBytes is the length of an ES256 signature: r and s, 32 bytes each
// (RFC 7518, section 3.4).
const signatureBytes = 64

var encoding = base64.RawURLEncoding.Strict()

// KeyID is a key's JWK thumbprint (RFC 7638), base64url. The error is
// attest.ErrPolicy for a key that is not ECDSA P-256.
func KeyID(key crypto.PublicKey) (string, error) {
	p, ok := key.(*ecdsa.PublicKey)
	if !ok || p == nil || p.Curve != elliptic.P256() {
		return "", fmt.Errorf("%w: a %T signs no results, want ECDSA P-256", attest.ErrPolicy, key)
	}
	point, err := p.Bytes()
	if err != nil {
		return "", fmt.Errorf("%w: the key that signs results: %w", attest.ErrPolicy, err)
	}
	x, y := point[1:33], point[33:]
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`,
		encoding.EncodeToString(x), encoding.EncodeToString(y)))
	return encoding.EncodeToString(sum[:]), nil
}

// header is the only one that a token of this key has: the reader compares it
// with what it makes itself, and never asks it which algorithm to use.
func header(key crypto.PublicKey) (string, error) {
	id, err := KeyID(key)
	if err != nil {
		return "", err
	}
	return encoding.EncodeToString(fmt.Appendf(nil, `{"alg":"ES256","kid":"%s","typ":"eat+jwt"}`, id)), nil
}

// Sign makes a token with an ECDSA P-256 key. Errors are attest.ErrPolicy for
// another key, attest.ErrMalformed for claims that nobody would read, and those
// of the key.
func Sign(random io.Reader, c *Claims, key crypto.Signer) (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	head, err := header(key.Public())
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("encoding a result: %w", err)
	}
	signed := head + "." + encoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(signed))
	der, err := key.Sign(random, digest[:], crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("signing a result: %w", err)
	}
	signature, err := raw(der)
	if err != nil {
		return "", err
	}
	token := signed + "." + encoding.EncodeToString(signature)
	if len(token) > MaxBytes {
		return "", malformed("token has %d bytes, at most %d", len(token), MaxBytes)
	}
	return token, nil
}

// pair is an ECDSA signature in ASN.1 (RFC 3279, section 2.2.3).
type pair struct{ R, S *big.Int }

func raw(der []byte) ([]byte, error) {
	var p pair
	rest, err := asn1.Unmarshal(der, &p)
	if err != nil || len(rest) > 0 || max(p.R.BitLen(), p.S.BitLen()) > 4*signatureBytes {
		return nil, fmt.Errorf("%w: the key's signature is no ECDSA signature", attest.ErrPolicy)
	}
	b := make([]byte, signatureBytes)
	p.R.FillBytes(b[:signatureBytes/2])
	p.S.FillBytes(b[signatureBytes/2:])
	return b, nil
}

// Verify reads a token that the key of a role has signed. Errors are
// attest.ErrMalformed, attest.ErrSignature for another key or another
// algorithm, attest.ErrBinding for another role, and attest.ErrPolicy for a key
// that is not ECDSA P-256. Whether the token is Current is for the caller to
// ask.
func Verify(token string, key crypto.PublicKey, of Role) (*Claims, error) {
	if len(token) > MaxBytes {
		return nil, malformed("token has %d bytes, at most %d", len(token), MaxBytes)
	}
	want, err := header(key)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, malformed("token has %d parts, want 3", len(parts))
	}
	if parts[0] != want {
		return nil, fmt.Errorf("%w: the result's header is not that of this key's tokens", attest.ErrSignature)
	}
	signature, err := decode(parts[2])
	if err != nil || len(signature) != signatureBytes {
		return nil, malformed("signature is not %d bytes in base64url", signatureBytes)
	}
	if !valid(key.(*ecdsa.PublicKey), parts[0]+"."+parts[1], signature) {
		return nil, fmt.Errorf("%w: the result is not signed by this key", attest.ErrSignature)
	}
	c, err := parse(parts[1])
	if err != nil {
		return nil, err
	}
	if c.Issued.Role != of {
		return nil, fmt.Errorf("%w: the result is the word of a %s, not of a %s", attest.ErrBinding, c.Issued.Role, of)
	}
	return c, nil
}

func valid(key *ecdsa.PublicKey, signed string, signature []byte) bool {
	digest := sha256.Sum256([]byte(signed))
	half := signatureBytes / 2
	return ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]))
}

// decode refuses the line breaks that package base64 passes over.
func decode(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("base64url has a line break")
	}
	return encoding.DecodeString(text)
}

func parse(encoded string) (*Claims, error) {
	payload, err := decode(encoded)
	if err != nil {
		return nil, malformed("payload: %w", err)
	}
	c := new(Claims)
	if err := strictjson.Unmarshal(payload, c); err != nil {
		return nil, malformed("payload: %w", err)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	again, err := json.Marshal(c)
	if err != nil || !bytes.Equal(again, payload) {
		return nil, malformed("payload is not in its only spelling")
	}
	return c, nil
}
