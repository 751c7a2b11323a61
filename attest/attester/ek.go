package attester

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/tpm"
)

// endorsementKey is the TPM's endorsement key and how it is authorized.
type endorsementKey struct {
	handle tpm2.NamedHandle
	// public is a DER SubjectPublicKeyInfo.
	public []byte
	// password says that the empty password uses the key (templates of the
	// high range), otherwise only the policy does.
	password bool
}

// findEK is the first kind of endorsement key that the TPM has a certificate
// for, or where it has none the one that clouds name instead.
func findEK(device transport.TPM) (endorsementKey, []byte, error) {
	for _, template := range tpm.EKTemplates() {
		certificate, err := ReadNV(device, template.Certificate)
		if errors.Is(err, ErrNoIndex) {
			continue
		}
		if err != nil {
			return endorsementKey{}, nil, fmt.Errorf("reading endorsement certificate: %w", err)
		}
		// Makers leave room behind the certificate.
		certificate = trimDER(certificate)
		key, err := loadEK(device, template)
		if err == nil {
			err = key.certifiedBy(certificate)
		}
		return key, certificate, err
	}
	// What lies at the key's handle may be anybody's, and no certificate would
	// tell.
	key, err := deriveEK(device, tpm.UncertifiedEK())
	return key, nil, err
}

// loadEK takes the key where its maker left it, or derives it from the TPM's
// endorsement seed.
func loadEK(device transport.TPM, template tpm.EKTemplate) (endorsementKey, error) {
	kept, err := tpm2.ReadPublic{ObjectHandle: template.Handle}.Execute(device)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return deriveEK(device, template)
	}
	if err != nil {
		return endorsementKey{}, fmt.Errorf("reading endorsement key: %w", err)
	}
	return newEK(template, tpm2.NamedHandle{Handle: template.Handle, Name: kept.Name}, kept.OutPublic)
}

func deriveEK(device transport.TPM, template tpm.EKTemplate) (endorsementKey, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template.Public)}.Execute(device)
	if err != nil {
		return endorsementKey{}, fmt.Errorf("deriving endorsement key: %w", err)
	}
	return newEK(template, tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, made.OutPublic)
}

func newEK(template tpm.EKTemplate, handle tpm2.NamedHandle, public tpm2.TPM2BPublic) (endorsementKey, error) {
	contents, err := public.Contents()
	if err != nil {
		return endorsementKey{}, fmt.Errorf("reading endorsement key: %w", err)
	}
	key, err := tpm2.Pub(*contents)
	if err != nil {
		return endorsementKey{}, fmt.Errorf("reading endorsement key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return endorsementKey{}, fmt.Errorf("reading endorsement key: %w", err)
	}
	return endorsementKey{handle: handle, public: spki, password: template.Public.ObjectAttributes.UserWithAuth}, nil
}

// ErrOtherKey says that the TPM's endorsement certificate is not for the key
// that it holds.
var ErrOtherKey = errors.New("endorsement certificate is for another key")

// certifiedBy refuses a certificate that is not for the key.
func (k endorsementKey) certifiedBy(certificate []byte) error {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return fmt.Errorf("reading endorsement certificate: %w", err)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, k.public) {
		return ErrOtherKey
	}
	return nil
}

// use runs f with what authorizes the key.
func (k endorsementKey) use(device transport.TPM, f func(tpm2.Session) error) error {
	if k.password {
		return f(tpm2.PasswordAuth(nil))
	}
	return WithPolicySession(device, endorsementPolicy, f)
}

// endorsementPolicy is PolicySecret(TPM_RH_ENDORSEMENT), the policy of the low
// range's templates (EK Credential Profile 2.5, annex B.2).
func endorsementPolicy(device transport.TPM, session tpm2.TPMISHPolicy) error {
	_, err := tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session,
	}.Execute(device)
	return err
}

// trimDER cuts what follows the first DER value, where its length is plain.
func trimDER(b []byte) []byte {
	if len(b) < 4 || b[0] != 0x30 || b[1] != 0x82 {
		return b
	}
	if n := 4 + int(b[2])<<8 + int(b[3]); n < len(b) {
		return b[:n]
	}
	return b
}
