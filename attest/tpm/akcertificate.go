package tpm

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// AKCertificate is an attestation key's own certificate, by which a cloud
// vouches for the key without any activation.
type AKCertificate struct {
	// Certificate is what it says beside the key.
	Certificate *x509.Certificate
}

// ParseAKCertificate reads an attestation key's certificate. It verifies
// nothing but the shape: a key that signs, and that is no authority. What the
// certificate's extended key usage says is not looked at: Google's have an
// endorsement key's, or none. Errors are attest.ErrMalformed or
// attest.ErrIdentity.
func ParseAKCertificate(der []byte) (*AKCertificate, error) {
	c, err := chain.Parse("ak_certificate", der)
	if err != nil {
		return nil, err
	}
	if c.KeyUsage != x509.KeyUsageDigitalSignature || c.IsCA {
		return nil, fmt.Errorf("%w: ak_certificate is not for a key that signs, and signs no certificates", attest.ErrIdentity)
	}
	return &AKCertificate{Certificate: c}, nil
}

// Of reports whether the certificate is of this very key. The error is
// attest.ErrBinding.
func (c *AKCertificate) Of(ak *AK) error {
	if !ak.Is(c.Certificate.PublicKey) {
		return fmt.Errorf("%w: ak_certificate is of another key than the one that signs", attest.ErrBinding)
	}
	return nil
}

// Path leads from the certificate through intermediates to one accepted
// authority, at the given time. Errors are chain.Verify's.
func (c *AKCertificate) Path(intermediates []*x509.Certificate, root *x509.Certificate, at time.Time) (*chain.Path, error) {
	// As an endorsement certificate's, the alternative name may describe the
	// TPM's make in a form that crypto/x509 does not read.
	return chain.Verify(chain.Handled(c.Certificate, oidSAN), intermediates, []*x509.Certificate{root}, at)
}

// Extension is the value of one of the certificate's extensions, nil where it
// has none. crypto/x509 refuses one that is there twice.
func (c *AKCertificate) Extension(id asn1.ObjectIdentifier) []byte {
	for _, e := range c.Certificate.Extensions {
		if e.Id.Equal(id) {
			return e.Value
		}
	}
	return nil
}
