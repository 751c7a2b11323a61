package tdx

import (
	"bytes"
	"crypto/x509"
	"time"

	"github.com/toolshed-cloud/shed/attest/chain"
)

// VerifyWithoutCollateral checks what a quote proves by itself: its signatures,
// and the platform's certificates up to a pinned root. Whether any of them was
// revoked, and whether the platform, its TDX module and its quoting enclave are
// ones that Intel vouches for, only collateral says: this is no endorsement.
// Errors are attest.ErrMalformed, attest.ErrIdentity and attest.ErrSignature.
func VerifyWithoutCollateral(q *Quote, roots []*x509.Certificate, at time.Time) (*PCK, error) {
	certificates, err := chain.ParseAll("pck chain", bytes.TrimSuffix(q.PCKChain, []byte{0}))
	if err != nil {
		return nil, err
	}
	path, err := chain.Verify(certificates[0], certificates[1:], roots, at)
	if err != nil {
		return nil, err
	}
	e := &Endorsement{chain: q.PCKChain}
	if err := e.read(path); err != nil {
		return nil, err
	}
	return &e.PCK, e.verify(q)
}
