package chain

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// maxCertificates is a leaf, the intermediates and a root.
const maxCertificates = MaxIntermediates + 2

// maxText caps a list of certificates in PEM or DER. PEM takes four bytes
// for three and a line of frame around them.
const maxText = maxCertificates * (MaxCertificate*3/2 + 128)

// Parse reads one certificate in DER, at most MaxCertificate bytes, and
// nothing behind it. The error is attest.ErrMalformed and names what name says.
func Parse(name string, der []byte) (*x509.Certificate, error) {
	if len(der) == 0 || len(der) > MaxCertificate {
		return nil, fmt.Errorf("%w: %s has %d bytes, want 1 to %d", attest.ErrMalformed, name, len(der), MaxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && (key.N.BitLen() > maxRSABits || key.E > maxRSAExponent) {
		return nil, fmt.Errorf("%w: %s has an rsa key of %d bits and exponent %d, at most %d and %d",
			attest.ErrMalformed, name, key.N.BitLen(), key.E, maxRSABits, maxRSAExponent)
	}
	return c, nil
}

// Caps on the RSA keys of authorities. MaxCertificate has room for a modulus of
// 126,000 bits, which takes seconds to verify one signature with, and looking
// for a path tries a hundred.
const (
	maxRSABits     = 4096
	maxRSAExponent = 65537
)

// ParseAll reads certificates that stand one behind the other, all in PEM or
// all in DER: 1 to MaxIntermediates+2 of them. Errors are those of Parse.
func ParseAll(name string, b []byte) ([]*x509.Certificate, error) {
	if len(b) == 0 || len(b) > maxText {
		return nil, fmt.Errorf("%w: %s has %d bytes, want 1 to %d", attest.ErrMalformed, name, len(b), maxText)
	}
	next := nextDER
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		next = nextPEM
	}
	var all []*x509.Certificate
	for len(b) > 0 {
		if len(all) == maxCertificates {
			return nil, fmt.Errorf("%w: %s has more than %d certificates", attest.ErrMalformed, name, maxCertificates)
		}
		der, rest, err := next(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
		}
		c, err := Parse(fmt.Sprintf("%s[%d]", name, len(all)), der)
		if err != nil {
			return nil, err
		}
		all, b = append(all, c), rest
	}
	return all, nil
}

func nextDER(b []byte) (der, rest []byte, err error) {
	var v asn1.RawValue
	rest, err = asn1.Unmarshal(b, &v)
	return v.FullBytes, rest, err
}

func nextPEM(b []byte) (der, rest []byte, err error) {
	b = bytes.TrimSpace(b)
	block, rest := pem.Decode(b)
	// pem.Decode passes over whatever stands before a block.
	if block == nil || !bytes.HasPrefix(b, []byte("-----BEGIN CERTIFICATE-----")) || block.Type != "CERTIFICATE" {
		return nil, nil, fmt.Errorf("something else than certificates in pem")
	}
	return block.Bytes, bytes.TrimSpace(rest), nil
}
