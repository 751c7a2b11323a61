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
	// password says that the empty password uses the key (templates of the
	// high range), otherwise only the policy does.
	password bool
}

// findEK is the first kind of endorsement key that the TPM has a certificate
// for. The error is ErrNoIndex where it has none.
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
		key, err := loadEK(device, template, certificate)
		return key, certificate, err
	}
	return endorsementKey{}, nil, fmt.Errorf("reading endorsement certificate: %w", ErrNoIndex)
}

// loadEK takes the key where its maker left it, or derives it from the TPM's
// endorsement seed.
func loadEK(device transport.TPM, template tpm.EKTemplate, certificate []byte) (endorsementKey, error) {
	key := endorsementKey{password: template.Public.ObjectAttributes.UserWithAuth}
	if kept, err := (tpm2.ReadPublic{ObjectHandle: template.Handle}).Execute(device); err == nil {
		key.handle = tpm2.NamedHandle{Handle: template.Handle, Name: kept.Name}
		return key, checkEK(kept.OutPublic, certificate)
	} else if !errors.Is(err, tpm2.TPMRCHandle) {
		return key, fmt.Errorf("reading endorsement key: %w", err)
	}
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(template.Public)}.Execute(device)
	if err != nil {
		return key, fmt.Errorf("deriving endorsement key: %w", err)
	}
	key.handle = tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}
	return key, checkEK(made.OutPublic, certificate)
}

// ErrOtherKey says that the TPM's endorsement certificate is not for the key
// that it holds.
var ErrOtherKey = errors.New("endorsement certificate is for another key")

func checkEK(public tpm2.TPM2BPublic, certificate []byte) error {
	contents, err := public.Contents()
	if err != nil {
		return fmt.Errorf("reading endorsement key: %w", err)
	}
	key, err := tpm2.Pub(*contents)
	if err != nil {
		return fmt.Errorf("reading endorsement key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return fmt.Errorf("reading endorsement key: %w", err)
	}
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return fmt.Errorf("reading endorsement certificate: %w", err)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, spki) {
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
