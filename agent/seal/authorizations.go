package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// authorizations are the TPM's, from the claim on: 32 bytes each, drawn in the
// machine, known to the opened volume and to the owner.
type authorizations struct {
	Owner   []byte `cbor:"1,keyasint"`
	Lockout []byte `cbor:"2,keyasint"`
}

const (
	authorizationsInfo = "shed/authorizations/1"
	// maxAuthorizations caps what they are encoded to, in bytes.
	maxAuthorizations = 256
)

func drawAuthorizations(random io.Reader) (a authorizations, err error) {
	if a.Owner, err = attester.DrawAuthorization(random); err != nil {
		return a, err
	}
	a.Lockout, err = attester.DrawAuthorization(random)
	return a, err
}

// encrypt is the authorizations under the data key, for the header of its volume.
func (a authorizations) encrypt(key []byte, h header) ([]byte, error) {
	plain, err := canon.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encoding authorizations: %w", err)
	}
	aead, err := authorizationsCipher(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, plain, h.context()), nil
}

// decryptAuthorizations reads what encrypt wrote under this key for this
// header. The error is ErrForeign.
func decryptAuthorizations(key []byte, h header) (authorizations, error) {
	var a authorizations
	aead, err := authorizationsCipher(key)
	if err != nil {
		return a, err
	}
	plain, err := aead.Open(nil, nil, h.Authorizations, h.context())
	if err != nil {
		return a, fmt.Errorf("%w: authorizations are not under its data key", ErrForeign)
	}
	if err := canon.Unmarshal("authorizations", plain, maxAuthorizations, &a); err != nil {
		return a, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	return a, nil
}

// authorizationsCipher derives a key of its own from the data key: that is the
// disk's, and sees no other use.
func authorizationsCipher(key []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, authorizationsInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving authorizations' key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("encrypting authorizations: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
