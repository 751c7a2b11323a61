package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// Endorsement is AMD's word for a key that signs reports. It can be kept by
// the digest of what it was made from, for as long as Freshness.Valid says.
type Endorsement struct {
	// Kind is VCEK or VLEK.
	Kind Signer
	// Product is the product line of the root, such as "Milan", and Layout its
	// layout of TCB versions.
	Product string
	Layout  Layout
	// Part is the product as the certificate names it, such as "Milan-B0". It
	// decides nothing.
	Part string
	// TCB is the level that the key was derived for.
	TCB TCB
	// HWID is the chip: 64 bytes, from Turin on 8. Nil on a VLEK.
	HWID []byte
	// CSP is the cloud provider that a VLEK was made for; empty on a VCEK.
	CSP string
	// Freshness is that of the certificates and of their revocation lists.
	Freshness chain.Freshness

	key *ecdsa.PublicKey
}

// VerifyEndorsement checks the path from leaf, a VCEK or VLEK, by an authority of AMD's (ASK or
// ASVK), given or known to the anchor, to the root of an anchor, the revocation of
// each, and what the leaf says of itself (AMD 57230). Errors are
// attest.ErrPolicy, attest.ErrMalformed, attest.ErrIdentity and those of
// chain.Revocations.Check.
func VerifyEndorsement(leaf *x509.Certificate, given []*x509.Certificate, anchors []Anchor, r chain.Revocations, at time.Time) (*Endorsement, error) {
	var roots []*x509.Certificate
	authorities := issuers(leaf, nil, given)
	for _, a := range anchors {
		if a.Root == nil || a.Layout != LayoutMilan && a.Layout != LayoutTurin || a.Product == "" {
			return nil, fmt.Errorf("%w: an anchor of snp has no root, product or layout", attest.ErrPolicy)
		}
		roots = append(roots, a.Root)
		authorities = issuers(leaf, authorities, a.Authorities)
	}
	p, err := chain.Verify(leaf, authorities, roots, at)
	if err != nil {
		return nil, err
	}
	if len(p.Certificates) != 3 {
		return nil, fmt.Errorf("%w: path of an endorsement key has %d certificates, want leaf, ASK or ASVK, and ARK", attest.ErrIdentity, len(p.Certificates))
	}
	freshness, err := r.Check(p, at)
	if err != nil {
		return nil, err
	}
	a := anchors[slices.IndexFunc(anchors, func(a Anchor) bool { return a.Root.Equal(p.Root()) })]
	return a.endorse(leaf, freshness)
}

// issuers adds those of candidates that bear the name of leaf's issuer.
func issuers(leaf *x509.Certificate, found, candidates []*x509.Certificate) []*x509.Certificate {
	for _, c := range candidates {
		if bytes.Equal(c.RawSubject, leaf.RawIssuer) && !slices.ContainsFunc(found, c.Equal) {
			found = append(found, c)
		}
	}
	return found
}

func (a Anchor) endorse(leaf *x509.Certificate, freshness chain.Freshness) (*Endorsement, error) {
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%w: endorsement key is not ECDSA with P-384", attest.ErrIdentity)
	}
	e, err := readExtensions(leaf, a.Layout)
	if err != nil {
		return nil, err
	}
	kind, err := e.kind(leaf, a.Product)
	if err != nil {
		return nil, err
	}
	return &Endorsement{
		Kind: kind, Product: a.Product, Layout: a.Layout, Part: e.product, TCB: e.tcb, HWID: e.hwid, CSP: e.csp,
		Freshness: freshness, key: key,
	}, nil
}

// Check verifies that the endorsed key signed the report and that the report is
// of the platform that the certificate describes: the kind of key, the
// reported TCB and, under a VCEK, the chip. A report with a masked chip id is
// refused. Errors are attest.ErrSignature, attest.ErrIdentity and
// attest.ErrMalformed.
func (e *Endorsement) Check(r *Report) error {
	if e.Kind == VCEK && r.ChipMasked() {
		return fmt.Errorf("%w: CHIP_ID is masked, so nothing shows which chip it is", attest.ErrIdentity)
	}
	return e.CheckWhateverTheChip(r)
}

// CheckWhateverTheChip is Check for whoever accepts that the host masks CHIP_ID: the
// signature still shows a chip of AMD's at this TCB, by a key of that chip's alone.
// An id that is shown has to be the certificate's here too.
func (e *Endorsement) CheckWhateverTheChip(r *Report) error {
	if r.Signer != e.Kind {
		return fmt.Errorf("%w: report says it is signed with a %s, the certificate is of a %s", attest.ErrIdentity, r.Signer, e.Kind)
	}
	if err := e.verify(r); err != nil {
		return err
	}
	tcb, err := r.ReportedTCB.Decode(e.Layout)
	if err != nil {
		return err
	}
	if tcb != e.TCB {
		return fmt.Errorf("%w: REPORTED_TCB is %s, the key is for %s", attest.ErrIdentity, tcb, e.TCB)
	}
	return e.checkChip(r)
}

func (e *Endorsement) checkChip(r *Report) error {
	if e.Kind == VLEK || r.ChipMasked() {
		return nil
	}
	n := e.Layout.chipID()
	if !bytes.Equal(r.ChipID[:n], e.HWID) || !zero(r.ChipID[n:]) {
		return fmt.Errorf("%w: CHIP_ID is not the chip that the key is of", attest.ErrIdentity)
	}
	return nil
}

// verify checks the signature over the first 0x2a0 bytes: r and s of 72 bytes
// each, little-endian (AMD 56860, "ECDSA P-384 with SHA-384").
func (e *Endorsement) verify(r *Report) error {
	digest := sha512.Sum384(r.raw[:signedSize])
	if !ecdsa.Verify(e.key, digest[:], number(r.raw[signedSize:signedSize+componentSize]), number(r.raw[signedSize+componentSize:signatureEnd])) {
		return fmt.Errorf("%w: snp report", attest.ErrSignature)
	}
	return nil
}

func number(little []byte) *big.Int {
	big384 := slices.Clone(little)
	slices.Reverse(big384)
	return new(big.Int).SetBytes(big384)
}
