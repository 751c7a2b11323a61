package ownership

import (
	"crypto/ecdh"
	"crypto/hpke"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// MaxRecoveryBytes caps a wrapped Recovery.
const MaxRecoveryBytes = 1024

const recoveryTag = "shed/recovery/1\x00"

// Recovery is what the owner has beside the machine: with it, what a lost
// machine kept to itself is open to its owner alone.
type Recovery struct {
	// OwnerAuth and LockoutAuth are the authorizations of the machine's TPM.
	OwnerAuth   []byte `cbor:"1,keyasint"`
	LockoutAuth []byte `cbor:"2,keyasint"`
	// VolumeKey is the data disk's, an AEGIS-128 key of 16 bytes.
	VolumeKey []byte `cbor:"3,keyasint"`
}

// RecoveryContext is what the key of a volume is wrapped for: the volume, and the
// claim that it was made under.
func RecoveryContext(volume [16]byte, claim attest.Digest) []byte {
	return append(append([]byte{}, volume[:]...), claim[:]...)
}

// WrapRecovery encrypts to the claim's recovery recipient (RFC 9180, base mode:
// X25519, HKDF-SHA256, AES-256-GCM). It opens for the same context alone.
func (c *Claim) WrapRecovery(r Recovery, context []byte) ([]byte, error) {
	plain, err := canon.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encoding recovery: %w", err)
	}
	defer clear(plain)
	to, err := hpke.DHKEM(ecdh.X25519()).NewPublicKey(c.Body.Recovery[:])
	if err != nil {
		return nil, fmt.Errorf("recovery recipient: %w", err)
	}
	wrapped, err := hpke.Seal(to, hpke.HKDFSHA256(), hpke.AES256GCM(), recoveryInfo(context), plain)
	if err != nil {
		return nil, fmt.Errorf("wrapping to the recovery recipient: %w", err)
	}
	return wrapped, nil
}

// OpenRecovery reads what WrapRecovery wrote for this key and context. Errors
// are attest.ErrMalformed.
func OpenRecovery(key *ecdh.PrivateKey, context, wrapped []byte) (*Recovery, error) {
	if len(wrapped) > MaxRecoveryBytes {
		return nil, fmt.Errorf("%w: recovery has %d bytes, at most %d", attest.ErrMalformed, len(wrapped), MaxRecoveryBytes)
	}
	from, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("recovery key: %w", err)
	}
	plain, err := hpke.Open(from, hpke.HKDFSHA256(), hpke.AES256GCM(), recoveryInfo(context), wrapped)
	if err != nil {
		return nil, fmt.Errorf("%w: recovery: %w", attest.ErrMalformed, err)
	}
	defer clear(plain)
	r := new(Recovery)
	if err := canon.Unmarshal("recovery", plain, MaxRecoveryBytes, r); err != nil {
		return nil, err
	}
	return r, nil
}

func recoveryInfo(context []byte) []byte { return append([]byte(recoveryTag), context...) }

// usableRecipient says whether a point of X25519 can be wrapped to: those of
// low order give everybody the same secret (RFC 7748, section 6.1).
func usableRecipient(recipient [32]byte) bool {
	point, err := ecdh.X25519().NewPublicKey(recipient[:])
	if err != nil {
		return false
	}
	_, err = anyScalar.ECDH(point)
	return err == nil
}

// anyScalar is a private key that protects nothing.
var anyScalar = must(ecdh.X25519().NewPrivateKey([]byte("a scalar to try the points with.")))

// must is for a key built from a constant: an error there is a bug in this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
