package tdx

import (
	"bytes"
	"encoding/pem"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// MaxCollateral caps encoded collateral, bytes.
const MaxCollateral = 2 << 20

// collateralVersion is the only one.
const collateralVersion = 1

// Collateral is what Intel signs about a platform, as its provisioning
// certification service hands it out (Intel PCS API v4), so that a verifier
// needs no network. Nothing in it is verified until VerifyEndorsement says so.
type Collateral struct {
	// TCBInfo and QEIdentity are the service's JSON, at most MaxStatement
	// bytes each, and the chains the certificates of who signed them, leaf
	// first, in PEM or DER.
	TCBInfo         []byte
	TCBInfoChain    []byte
	QEIdentity      []byte
	QEIdentityChain []byte
	// PCKCRL is the revocation list of the authority that issued the platform's
	// certificate, RootCRL that of Intel's root, in DER or PEM, at most
	// chain.MaxList bytes each.
	PCKCRL  []byte
	RootCRL []byte
}

type wireCollateral struct {
	Version         int    `cbor:"1,keyasint"`
	TCBInfo         []byte `cbor:"2,keyasint"`
	TCBInfoChain    []byte `cbor:"3,keyasint"`
	QEIdentity      []byte `cbor:"4,keyasint"`
	QEIdentityChain []byte `cbor:"5,keyasint"`
	PCKCRL          []byte `cbor:"6,keyasint"`
	RootCRL         []byte `cbor:"7,keyasint"`
}

// Encode returns the collateral's only encoding, as a bundle carries it.
func (c *Collateral) Encode() ([]byte, error) {
	b, err := canon.Marshal(wireCollateral{
		Version: collateralVersion, TCBInfo: c.TCBInfo, TCBInfoChain: c.TCBInfoChain,
		QEIdentity: c.QEIdentity, QEIdentityChain: c.QEIdentityChain, PCKCRL: c.PCKCRL, RootCRL: c.RootCRL,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding tdx collateral: %w", err)
	}
	return b, nil
}

// ParseCollateral reads what Encode wrote and nothing else, at most
// MaxCollateral bytes. The error is attest.ErrMalformed.
func ParseCollateral(b []byte) (*Collateral, error) {
	var w wireCollateral
	if err := canon.Unmarshal("tdx collateral", b, MaxCollateral, &w); err != nil {
		return nil, err
	}
	if w.Version != collateralVersion {
		return nil, fmt.Errorf("%w: tdx collateral: version %d, want %d", attest.ErrMalformed, w.Version, collateralVersion)
	}
	return &Collateral{
		TCBInfo: w.TCBInfo, TCBInfoChain: w.TCBInfoChain, QEIdentity: w.QEIdentity,
		QEIdentityChain: w.QEIdentityChain, PCKCRL: w.PCKCRL, RootCRL: w.RootCRL,
	}, nil
}

// lists are the two revocation lists.
func (c *Collateral) lists() ([]*chain.List, error) {
	pck, err := parseList("pck crl", c.PCKCRL)
	if err != nil {
		return nil, err
	}
	root, err := parseList("root crl", c.RootCRL)
	if err != nil {
		return nil, err
	}
	return []*chain.List{pck, root}, nil
}

// parseList reads a list in DER, or in PEM with nothing around it.
func parseList(name string, b []byte) (*chain.List, error) {
	const begin = "-----BEGIN X509 CRL-----"
	// Base64 makes four bytes of three, and lines add a few.
	if len(b) > chain.MaxList*3/2 {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", attest.ErrMalformed, name, len(b), chain.MaxList)
	}
	if !bytes.HasPrefix(b, []byte(begin)) {
		return chain.ParseList(name, b)
	}
	block, rest := pem.Decode(b)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%w: %s is not one list in pem", attest.ErrMalformed, name)
	}
	return chain.ParseList(name, block.Bytes)
}
