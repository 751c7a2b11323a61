package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// ParseAKAnyForm reads an attestation key as other programs write it: a
// TPMT_PUBLIC, the same behind its length (TPM2B_PUBLIC), or a PEM PUBLIC KEY.
// The last shows no attributes: shown is false, and nothing says that the key
// signs only what its TPM made. Errors are attest.ErrMalformed and
// attest.ErrIdentity.
func ParseAKAnyForm(b []byte) (ak *AK, shown bool, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		ak, err = akWhoseAttributesAreUnknown(b)
		return ak, false, err
	}
	if len(b) > 2 && int(binary.BigEndian.Uint16(b)) == len(b)-2 {
		b = b[2:]
	}
	ak, err = ParseAK(b)
	return ak, true, err
}

func akWhoseAttributesAreUnknown(text []byte) (*AK, error) {
	if len(text) > MaxPEM {
		return nil, fmt.Errorf("%w: ak_public has %d bytes, at most %d", attest.ErrMalformed, len(text), MaxPEM)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%w: ak_public is no PEM PUBLIC KEY", attest.ErrMalformed)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: ak_public: %w", attest.ErrMalformed, err)
	}
	if !signsQuotes(key) {
		return nil, fmt.Errorf("%w: attestation key is neither on P-256 nor RSA with 2048 bits", attest.ErrIdentity)
	}
	return &AK{key: key}, nil
}

// MaxPEM caps a key in PEM, bytes.
const MaxPEM = 4 << 10

func signsQuotes(key crypto.PublicKey) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256()
	case *rsa.PublicKey:
		return key.Size() == 256
	}
	return false
}
