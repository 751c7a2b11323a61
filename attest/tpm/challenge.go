package tpm

import (
	"crypto/subtle"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
)

// Challenge is a credential that only the TPM that holds both keys can open
// (TPM 2.0 Part 1, section 24). It convinces whoever made it and nobody else.
type Challenge struct {
	// CredentialBlob is a TPM2B_ID_OBJECT's buffer and EncryptedSecret a
	// TPM2B_ENCRYPTED_SECRET's: they go to the machine.
	CredentialBlob  []byte
	EncryptedSecret []byte
	secret          []byte
	// EK is the SHA-256 of the endorsement key's SubjectPublicKeyInfo, AKName
	// the attestation key's TPM name.
	EK     attest.Digest
	AKName []byte
}

// NewChallenge makes a credential for an attestation key under an endorsement
// key. It does not check who vouches for the endorsement key. Errors are those
// of rand.
func NewChallenge(rand io.Reader, ek *EK, ak *AK) (*Challenge, error) {
	key, err := ek.encapsulation()
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, fmt.Errorf("drawing a credential: %w", err)
	}
	blob, encrypted, err := tpm2.CreateCredential(rand, key, ak.Name, secret)
	if err != nil {
		return nil, fmt.Errorf("making a credential: %w", err)
	}
	return &Challenge{
		CredentialBlob: blob, EncryptedSecret: encrypted, secret: secret, EK: ek.ID, AKName: ak.Name,
	}, nil
}

// Answered compares the answer that came over this connection with
// attest.Channel.ActivationAnswer, in constant time. The error is
// attest.ErrIdentity.
func (c *Challenge) Answered(answer []byte, ch attest.Channel) error {
	want := ch.ActivationAnswer(c.secret, c.AKName)
	if subtle.ConstantTimeCompare(want[:], answer) != 1 {
		return fmt.Errorf("%w: credential was not activated", attest.ErrIdentity)
	}
	return nil
}
