package tpm

import (
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

// AK is an attestation key's public part.
type AK struct {
	public *ecdsa.PublicKey
	// Name is the key's TPM name: its algorithm and a SHA-256.
	Name []byte
}

// ParseAK reads a TPMT_PUBLIC and accepts it only as a restricted P-256
// signing key that never leaves its TPM. Errors are attest.ErrMalformed or
// attest.ErrIdentity.
func ParseAK(public []byte) (*AK, error) {
	p, err := unmarshal[tpm2.TPMTPublic]("ak_public", public)
	if err != nil {
		return nil, err
	}
	template := AKTemplate()
	if p.Type != template.Type || p.NameAlg != template.NameAlg || p.ObjectAttributes != akAttributes {
		return nil, fmt.Errorf("%w: attestation key is no restricted signing key fixed to its tpm", attest.ErrIdentity)
	}
	key, err := akPoint(p)
	if err != nil {
		return nil, err
	}
	name, err := tpm2.ObjectName(p)
	if err != nil {
		return nil, fmt.Errorf("%w: naming ak_public: %w", attest.ErrMalformed, err)
	}
	return &AK{public: key, Name: name.Buffer}, nil
}

func akPoint(p *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	parms, err := p.Parameters.ECCDetail()
	if err != nil {
		return nil, fmt.Errorf("%w: ak_public parameters: %w", attest.ErrMalformed, err)
	}
	scheme, err := parms.Scheme.Details.ECDSA()
	if err != nil || scheme.HashAlg != tpm2.TPMAlgSHA256 || parms.CurveID != tpm2.TPMECCNistP256 {
		return nil, fmt.Errorf("%w: attestation key is not ECDSA with P-256 and SHA-256", attest.ErrIdentity)
	}
	point, err := p.Unique.ECC()
	if err != nil {
		return nil, fmt.Errorf("%w: ak_public point: %w", attest.ErrMalformed, err)
	}
	const size = 32
	if len(point.X.Buffer) > size || len(point.Y.Buffer) > size {
		return nil, fmt.Errorf("%w: ak_public point is too long", attest.ErrMalformed)
	}
	uncompressed := make([]byte, 1+2*size)
	uncompressed[0] = 4
	copy(uncompressed[1+size-len(point.X.Buffer):], point.X.Buffer)
	copy(uncompressed[1+2*size-len(point.Y.Buffer):], point.Y.Buffer)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), uncompressed)
	if err != nil {
		return nil, fmt.Errorf("%w: ak_public point: %w", attest.ErrMalformed, err)
	}
	return key, nil
}

// The endorsement certificate's extended key usage and its subject alternative
// name (TCG EK Credential Profile 2.5, sections 3.2.16 and 3.2.9).
var (
	oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1}
	oidSAN           = asn1.ObjectIdentifier{2, 5, 29, 17}
)

// EK is an endorsement key as its certificate shows it.
type EK struct {
	certificate *x509.Certificate
	// ID is the SHA-256 of the key's SubjectPublicKeyInfo.
	ID attest.Digest
}

// maxCertificate caps an endorsement certificate, DER.
const maxCertificate = 8 << 10

// ParseEK reads an endorsement certificate for an RSA-2048 key of the TCG's
// template L-1 (EK Credential Profile 2.5, annex B.3.3). It verifies nothing
// but the shape. Errors are attest.ErrMalformed or attest.ErrIdentity.
func ParseEK(der []byte) (*EK, error) {
	if len(der) == 0 || len(der) > maxCertificate {
		return nil, fmt.Errorf("%w: ek_certificate has %d bytes, want 1 to %d", attest.ErrMalformed, len(der), maxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: ek_certificate: %w", attest.ErrMalformed, err)
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() != 2048 || key.E != 65537 {
		return nil, fmt.Errorf("%w: endorsement key is not RSA-2048 with exponent 65537", attest.ErrIdentity)
	}
	return &EK{certificate: cert, ID: attest.Sum(cert.RawSubjectPublicKeyInfo)}, nil
}

// VerifyRoot checks the certificate against one accepted authority at the
// given time. Errors are attest.ErrIdentity.
func (e *EK) VerifyRoot(root *x509.Certificate, now time.Time) error {
	cert := *e.certificate
	if !slices.ContainsFunc(cert.UnknownExtKeyUsage, oidEKCertificate.Equal) {
		return fmt.Errorf("%w: ek_certificate is not for an endorsement key", attest.ErrIdentity)
	}
	// The profile makes the subject alternative name critical and fills it
	// with a directory name, which crypto/x509 does not read. It describes the
	// TPM's make and decides nothing here.
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(cert.UnhandledCriticalExtensions), oidSAN.Equal)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("%w: ek_certificate: %w", attest.ErrIdentity, err)
	}
	return nil
}

// encapsulation returns the key as credential activation needs it.
func (e *EK) encapsulation() (tpm2.LabeledEncapsulationKey, error) {
	public := tpm2.RSAEKTemplate
	modulus := e.certificate.PublicKey.(*rsa.PublicKey).N.FillBytes(make([]byte, 256))
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: modulus})
	key, err := tpm2.ImportEncapsulationKey(&public)
	if err != nil {
		return nil, fmt.Errorf("importing endorsement key: %w", err)
	}
	return key, nil
}
