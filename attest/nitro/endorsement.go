package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// Terms are what an endorsement is verified against.
type Terms struct {
	// Roots are the pinned roots: AWSRoots, or a test's own. At least one.
	Roots []*x509.Certificate
	// Revocations are the lists at hand. AWS has its documents verified without
	// any, since a signer's certificate is valid for three hours; a caller says
	// chain.NotPublished then.
	Revocations chain.Revocations
	// At is the time at which all of it must be valid.
	At time.Time
}

// Endorsement is the key that signs the documents of one machine, vouched for
// by AWS. It holds within Valid for every document of that signer, so that the
// caller can keep it by the digest of what it was made from.
type Endorsement struct {
	// Subject is the signer's common name, which names the instance.
	Subject string
	// Fresh is what was found about the lists, and when path and lists are
	// valid.
	Fresh chain.Freshness

	key         *ecdsa.PublicKey
	certificate []byte
}

// VerifyEndorsement verifies a document's certificate by its bundle. Errors are
// attest.ErrPolicy for terms that are incomplete, attest.ErrMalformed,
// attest.ErrIdentity, attest.ErrRevoked, attest.ErrCollateral and
// attest.ErrSignature.
func VerifyEndorsement(certificate []byte, bundle [][]byte, terms Terms) (*Endorsement, error) {
	leaf, err := chain.Parse("certificate", certificate)
	if err != nil {
		return nil, err
	}
	issuers := make([]*x509.Certificate, len(bundle))
	for i, der := range bundle {
		if issuers[i], err = chain.Parse(fmt.Sprintf("cabundle[%d]", i), der); err != nil {
			return nil, err
		}
	}
	path, err := chain.Verify(leaf, issuers, terms.Roots, terms.At)
	if err != nil {
		return nil, err
	}
	fresh, err := terms.Revocations.Check(path, terms.At)
	if err != nil {
		return nil, err
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%w: key of certificate is not on P-384", attest.ErrIdentity)
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, fmt.Errorf("%w: certificate is not for signing documents", attest.ErrIdentity)
	}
	return &Endorsement{
		Subject: leaf.Subject.CommonName, Fresh: fresh, key: key, certificate: bytes.Clone(certificate),
	}, nil
}

// Check verifies a document of the endorsed signer. It costs one P-384
// verification. Errors are attest.ErrIdentity and attest.ErrSignature.
func (e *Endorsement) Check(d *Document) error {
	if !bytes.Equal(d.Certificate, e.certificate) {
		return fmt.Errorf("%w: nitrotpm document comes with the certificate of another signer", attest.ErrIdentity)
	}
	digest := sha512.Sum384(d.signed)
	r, s := new(big.Int).SetBytes(d.signature[:48]), new(big.Int).SetBytes(d.signature[48:])
	if !ecdsa.Verify(e.key, digest[:], r, s) {
		return fmt.Errorf("%w: nitrotpm document", attest.ErrSignature)
	}
	return nil
}
