package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// The endorsement certificate's extended key usage and its subject alternative
// name (TCG EK Credential Profile 2.5, sections 3.2.16 and 3.2.9).
var (
	oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidSAN           = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// EK is an endorsement key as its certificate shows it, or whoever else names
// it.
type EK struct {
	// certificate is nil where none is shown.
	certificate *x509.Certificate
	key         crypto.PublicKey
	template    tpm2.TPMTPublic
	// ID is the SHA-256 of the key's SubjectPublicKeyInfo.
	ID attest.Digest
}

// ParseEK reads an endorsement certificate for a key of one of EKTemplates. It
// verifies nothing but the shape. Errors are attest.ErrMalformed or
// attest.ErrIdentity.
func ParseEK(der []byte) (*EK, error) {
	cert, err := chain.Parse("ek_certificate", der)
	if err != nil {
		return nil, err
	}
	template, err := ekTemplate(cert.PublicKey)
	if err != nil {
		return nil, err
	}
	return &EK{certificate: cert, key: cert.PublicKey, template: template, ID: attest.Sum(cert.RawSubjectPublicKeyInfo)}, nil
}

// EKWithoutCertificate is an endorsement key of one of EKTemplates that
// something else than a certificate names. The error is attest.ErrIdentity.
func EKWithoutCertificate(key crypto.PublicKey) (*EK, error) {
	template, err := ekTemplate(key)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: endorsement key: %w", attest.ErrIdentity, err)
	}
	return &EK{key: key, template: template, ID: attest.Sum(spki)}, nil
}

// ParseEKPublic reads a DER SubjectPublicKeyInfo of a key of one of EKTemplates.
// Errors are attest.ErrMalformed or attest.ErrIdentity.
func ParseEKPublic(der []byte) (*EK, error) {
	if len(der) > maxEKPublic {
		return nil, fmt.Errorf("%w: ek_public has %d bytes, at most %d", attest.ErrMalformed, len(der), maxEKPublic)
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: ek_public: %w", attest.ErrMalformed, err)
	}
	return EKWithoutCertificate(key)
}

// maxEKPublic caps a SubjectPublicKeyInfo; an RSA-2048 key's has 294 bytes.
const maxEKPublic = 512

func ekTemplate(key any) (tpm2.TPMTPublic, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return tpm2.ECCEKTemplate, nil
		case elliptic.P384():
			return ekP384Template, nil
		}
	case *rsa.PublicKey:
		if key.N.BitLen() == 2048 && key.E == 65537 {
			return tpm2.RSAEKTemplate, nil
		}
	}
	return tpm2.TPMTPublic{}, fmt.Errorf("%w: endorsement key is not P-256, P-384, or RSA-2048 with exponent 65537", attest.ErrIdentity)
}

// EKTemplate is a kind of endorsement key with the places where a TPM's maker
// leaves the key and its certificate (TCG EK Credential Profile 2.5, sections
// 2.2.1.4 and 2.2.1.5; TPM 2.0 Handles and Localities registry, section 2.3.1).
type EKTemplate struct {
	Public      tpm2.TPMTPublic
	Certificate tpm2.TPMHandle
	Handle      tpm2.TPMHandle
}

// EKTemplates are the kinds that are accepted, the quicker first: an RSA key
// takes four times as long to open a credential and a hundred to derive.
func EKTemplates() []EKTemplate {
	return []EKTemplate{
		{tpm2.ECCEKTemplate, 0x01C0000A, 0x81010002},
		{ekP384Template, 0x01C00016, 0x81010016},
		{tpm2.RSAEKTemplate, 0x01C00002, 0x81010001},
	}
}

// UncertifiedEK is the kind that a TPM without an endorsement certificate is
// known by: on P-384, as NitroTPM has it.
func UncertifiedEK() EKTemplate { return EKTemplates()[1] }

// ekP384Template is template H-3 (EK Credential Profile 2.5, annex B.4.5); its
// policy is PolicyB for SHA-384 (annex B.6.3), and userWithAuth lets the
// hierarchy's empty authorization use the key.
var ekP384Template = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA384,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true,
		UserWithAuth: true, AdminWithPolicy: true, Restricted: true, Decrypt: true,
	},
	AuthPolicy: tpm2.TPM2BDigest{Buffer: []byte{
		0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc,
		0xf5, 0xfd, 0x3a, 0x1a, 0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4,
		0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca, 0xcb, 0x47, 0xba, 0x09,
		0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12,
	}},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgNull},
		CurveID: tpm2.TPMECCNistP384,
		KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
}

// Path leads from the endorsement certificate through intermediates to one
// accepted authority, at the given time. Where the certificate has no extended key
// usage, no intermediate may have another's. Errors are attest.ErrIdentity and
// chain.Verify's.
func (e *EK) Path(intermediates []*x509.Certificate, root *x509.Certificate, at time.Time) (*chain.Path, error) {
	if e.certificate == nil {
		return nil, fmt.Errorf("%w: the machine shows no endorsement certificate", attest.ErrIdentity)
	}
	if !ofEndorsementKey(e.certificate) {
		return nil, fmt.Errorf("%w: ek_certificate is not for an endorsement key", attest.ErrIdentity)
	}
	// The profile makes the subject alternative name critical and fills it
	// with a directory name, which crypto/x509 does not read. It describes the
	// TPM's make and decides nothing here.
	path, err := chain.Verify(chain.Handled(e.certificate, oidSAN), intermediates, []*x509.Certificate{root}, at)
	if err != nil || saysUsage(e.certificate) {
		return path, err
	}
	for _, authority := range path.Certificates[1 : len(path.Certificates)-1] {
		if saysUsage(authority) && !certifiesEndorsementKeys(authority) {
			return nil, fmt.Errorf("%w: ek_certificate does not say what it is for, and an authority above it is for others", attest.ErrIdentity)
		}
	}
	return path, nil
}

// ofEndorsementKey reports whether a certificate is an endorsement key's: its
// extended key usage says so or, where it has none, as Google's of 2022 and
// later, its key usage is that of such a key and of nothing else (TCG EK
// Credential Profile 2.5, sections 3.2.11 and 3.2.16). No key that signs passes
// by the second way.
func ofEndorsementKey(c *x509.Certificate) bool {
	if saysUsage(c) {
		return slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCertificate.Equal)
	}
	if c.IsCA {
		return false
	}
	if _, isRSA := c.PublicKey.(*rsa.PublicKey); isRSA {
		return c.KeyUsage == x509.KeyUsageKeyEncipherment
	}
	return c.KeyUsage == x509.KeyUsageKeyAgreement
}

// saysUsage reports whether a certificate has an extended key usage.
func saysUsage(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage) > 0 || len(c.UnknownExtKeyUsage) > 0
}

// certifiesEndorsementKeys reports whether an authority's extended key usage, which
// is that of what it certifies, has that of an endorsement key or any.
func certifiesEndorsementKeys(c *x509.Certificate) bool {
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) || slices.ContainsFunc(c.UnknownExtKeyUsage, oidEKCertificate.Equal)
}

// encapsulation returns the key as credential activation needs it.
func (e *EK) encapsulation() (tpm2.LabeledEncapsulationKey, error) {
	public := e.template
	switch key := e.key.(type) {
	case *rsa.PublicKey:
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.FillBytes(make([]byte, 256))})
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return nil, fmt.Errorf("importing endorsement key: %w", err)
		}
		half := len(point[1:]) / 2
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1 : 1+half]}, Y: tpm2.TPM2BECCParameter{Buffer: point[1+half:]},
		})
	}
	key, err := tpm2.ImportEncapsulationKey(&public)
	if err != nil {
		return nil, fmt.Errorf("importing endorsement key: %w", err)
	}
	return key, nil
}
