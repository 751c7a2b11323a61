package verifier

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// ParseTrustAnchors reads the certificates of a PEM text, each an accepted root of
// the given tier. At least one; errors are attest.ErrPolicy.
func ParseTrustAnchors(text []byte, tier attest.Tier) ([]TrustAnchor, error) {
	var roots []TrustAnchor
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: endorsement root: %w", attest.ErrPolicy, err)
		}
		roots = append(roots, TrustAnchor{Certificate: certificate, Tier: tier})
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%w: endorsement root holds no certificate in PEM", attest.ErrPolicy)
	}
	return roots, nil
}
