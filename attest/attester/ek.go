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

// endorsementKey is the TPM's endorsement key and how it is used.
type endorsementKey struct {
	// kept is where the TPM's maker left the key; zero where it is derived for
	// each use: a TPM has room for three loaded keys.
	kept     tpm2.NamedHandle
	template tpm2.TPMTPublic
	// public is a DER SubjectPublicKeyInfo.
	public []byte
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
	key := endorsementKey{kept: tpm2.NamedHandle{Handle: template.Handle, Name: kept.Name}, template: template.Public}
	key.public, err = encodePublic(kept.OutPublic)
	return key, err
}

// deriveEK makes the key that the template derives once, to know it.
func deriveEK(device transport.TPM, template tpm.EKTemplate) (endorsementKey, error) {
	key := endorsementKey{template: template.Public}
	err := key.derived(device, func(_ tpm2.NamedHandle, public tpm2.TPM2BPublic) (err error) {
		key.public, err = encodePublic(public)
		return err
	})
	return key, err
}

// derived runs f with the key that the template derives loaded.
func (k endorsementKey) derived(device transport.TPM, f func(tpm2.NamedHandle, tpm2.TPM2BPublic) error) error {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(k.template)}.Execute(device)
	if err != nil {
		return fmt.Errorf("deriving endorsement key: %w", err)
	}
	err = f(tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, made.OutPublic)
	if _, gone := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(device); gone != nil {
		err = errors.Join(err, fmt.Errorf("flushing endorsement key: %w", gone))
	}
	return err
}

// encodePublic is a key's SubjectPublicKeyInfo, DER.
func encodePublic(public tpm2.TPM2BPublic) ([]byte, error) {
	contents, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading endorsement key: %w", err)
	}
	key, err := tpm2.Pub(*contents)
	if err != nil {
		return nil, fmt.Errorf("reading endorsement key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("reading endorsement key: %w", err)
	}
	return spki, nil
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

// use runs f with the key loaded, and what authorizes it.
func (k endorsementKey) use(device transport.TPM, f func(tpm2.AuthHandle) error) error {
	if k.kept.Handle != 0 {
		return k.authorized(device, k.kept, f)
	}
	return k.derived(device, func(key tpm2.NamedHandle, _ tpm2.TPM2BPublic) error { return k.authorized(device, key, f) })
}

// authorized runs f with what authorizes the key: for templates of the high range
// the empty password does, otherwise only the policy.
func (k endorsementKey) authorized(device transport.TPM, key tpm2.NamedHandle, f func(tpm2.AuthHandle) error) error {
	with := func(session tpm2.Session) error {
		return f(tpm2.AuthHandle{Handle: key.Handle, Name: key.Name, Auth: session})
	}
	if k.template.ObjectAttributes.UserWithAuth {
		return with(tpm2.PasswordAuth(nil))
	}
	return WithPolicySession(device, endorsementPolicy, with)
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
