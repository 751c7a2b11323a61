package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
)

// AKTemplate is the attestation key: a restricted P-256 signing key, derived
// from the TPM's owner seed so that the same machine has the same key at every
// boot.
func AKTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:             tpm2.TPMAlgECC,
		NameAlg:          tpm2.TPMAlgSHA256,
		ObjectAttributes: akAttributes,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
			KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
	}
}

// akAttributes are what makes a key one that signs only what its TPM made:
// without Restricted, anybody could have it sign a quote made elsewhere.
var akAttributes = tpm2.TPMAObject{
	FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
	UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
}

// The attributes that an attestation key must have, as a TPMA_OBJECT (TPM 2.0
// Part 2, section 8.3), and those in which keys of others differ: who may use
// it, and how wrong tries are counted.
const (
	akRequired = 1<<1 | 1<<4 | 1<<5 | 1<<16 | 1<<18
	akOptional = 1<<6 | 1<<7 | 1<<10
)

// AK is an attestation key's public part.
type AK struct {
	// Name is the key's TPM name: its algorithm and a SHA-256, 34 bytes.
	Name []byte
	key  crypto.PublicKey
}

// ParseAK reads a TPMT_PUBLIC and accepts it only as a restricted signing key
// that never leaves its TPM: ECDSA on P-256 or RSASSA with 2048 bits and
// exponent 65537, both with SHA-256. Errors are attest.ErrMalformed or
// attest.ErrIdentity.
func ParseAK(public []byte) (*AK, error) {
	w := newWire("ak_public", public)
	kind, nameAlg, attributes := w.u16("type"), w.u16("nameAlg"), w.u32("objectAttributes")
	w.buffer("authPolicy")
	if w.err != nil {
		return nil, w.err
	}
	if nameAlg != uint16(tpm2.TPMAlgSHA256) || attributes&akRequired != akRequired || attributes&^(akRequired|akOptional) != 0 {
		return nil, fmt.Errorf("%w: attestation key is no restricted signing key fixed to its tpm", attest.ErrIdentity)
	}
	key, err := w.akKey(kind)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(public)
	return &AK{Name: append([]byte{0x00, 0x0b}, digest[:]...), key: key}, nil
}

func (w *wire) akKey(kind uint16) (crypto.PublicKey, error) {
	switch kind {
	case uint16(tpm2.TPMAlgECC):
		return w.akECC()
	case uint16(tpm2.TPMAlgRSA):
		return w.akRSA()
	}
	return nil, fmt.Errorf("%w: attestation key is of type %#x, neither ECC nor RSA", attest.ErrIdentity, kind)
}

// akECC reads a TPMS_ECC_PARMS and a TPMS_ECC_POINT.
func (w *wire) akECC() (crypto.PublicKey, error) {
	symmetric, scheme, hash := w.u16("symmetric"), w.u16("scheme"), w.u16("scheme.hash")
	curve, kdf := w.u16("curve"), w.u16("kdf")
	if w.err == nil && (symmetric != uint16(tpm2.TPMAlgNull) || scheme != uint16(tpm2.TPMAlgECDSA) || hash != uint16(tpm2.TPMAlgSHA256) ||
		curve != uint16(tpm2.TPMECCNistP256) || kdf != uint16(tpm2.TPMAlgNull)) {
		return nil, fmt.Errorf("%w: attestation key is not ECDSA with P-256 and SHA-256", attest.ErrIdentity)
	}
	x, y := w.buffer("x"), w.buffer("y")
	if err := w.done(); err != nil {
		return nil, err
	}
	return p256Point(x, y)
}

func p256Point(x, y []byte) (*ecdsa.PublicKey, error) {
	const size = 32
	// TPMs differ in whether they write leading zeros; the point has one
	// spelling here because the key's name covers the bytes as they came.
	if len(x) > size || len(y) > size {
		return nil, fmt.Errorf("%w: ak_public point is too long", attest.ErrMalformed)
	}
	var uncompressed [1 + 2*size]byte
	uncompressed[0] = 4
	copy(uncompressed[1+size-len(x):], x)
	copy(uncompressed[1+2*size-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed[:])
	if err != nil {
		return nil, fmt.Errorf("%w: ak_public point: %w", attest.ErrMalformed, err)
	}
	return key, nil
}

// akRSA reads a TPMS_RSA_PARMS and a modulus.
func (w *wire) akRSA() (crypto.PublicKey, error) {
	symmetric, scheme, hash := w.u16("symmetric"), w.u16("scheme"), w.u16("scheme.hash")
	bits, exponent := w.u16("keyBits"), w.u32("exponent")
	modulus := w.buffer("modulus")
	if err := w.done(); err != nil {
		return nil, err
	}
	if symmetric != uint16(tpm2.TPMAlgNull) || scheme != uint16(tpm2.TPMAlgRSASSA) || hash != uint16(tpm2.TPMAlgSHA256) ||
		bits != 2048 || exponent != 0 || len(modulus) != 256 || modulus[0] < 0x80 {
		return nil, fmt.Errorf("%w: attestation key is not RSASSA with 2048 bits, exponent 65537 and SHA-256", attest.ErrIdentity)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}, nil
}

// Is reports whether key is the attestation key's own.
func (k *AK) Is(key crypto.PublicKey) bool {
	switch own := k.key.(type) {
	case *ecdsa.PublicKey:
		return own.Equal(key)
	case *rsa.PublicKey:
		return own.Equal(key)
	}
	return false
}

// verify checks a TPMT_SIGNATURE over a message.
func (k *AK) verify(message, signature []byte) error {
	w := newWire("signature", signature)
	algorithm, hash := w.u16("sigAlg"), w.u16("hash")
	if w.err == nil && hash != uint16(tpm2.TPMAlgSHA256) {
		return fmt.Errorf("%w: quote is not signed with SHA-256", attest.ErrSignature)
	}
	digest := sha256.Sum256(message)
	var ok bool
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		r, s := w.buffer("r"), w.buffer("s")
		if err := w.done(); err != nil {
			return err
		}
		ok = algorithm == uint16(tpm2.TPMAlgECDSA) && ecdsa.Verify(key, digest[:], new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
	case *rsa.PublicKey:
		sig := w.buffer("sig")
		if err := w.done(); err != nil {
			return err
		}
		ok = algorithm == uint16(tpm2.TPMAlgRSASSA) && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], sig) == nil
	}
	if !ok {
		return fmt.Errorf("%w: quote", attest.ErrSignature)
	}
	return nil
}
