// Package evidence is the wire form of what a machine hands out to prove what
// it is.
//
// Invariants: deterministic CBOR with an integer version; an unknown version,
// field, kind of binding or role is refused; every length is capped before the
// bytes are looked at. Decoding proves nothing: that is package verifier.
package evidence

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// Version is the only version of evidence.
const Version = 2

// Caps, in bytes.
const (
	// MaxBytes caps a whole piece of evidence, endorsements included.
	MaxBytes = 448 << 10
	// MaxTPMStructure caps each of the TPM's structures and certificates; the
	// largest, an RSA-4096 endorsement certificate, has about 2 KiB.
	MaxTPMStructure = 8 << 10
	// MaxPath caps the depth of a batch tree: 2^20 leaves in one quote.
	MaxPath = 20
)

// Binding says what the evidence is bound to.
type Binding uint8

// BindingExporter is the TLS 1.3 exporter together with the key: the only kind.
const BindingExporter Binding = 1

// Evidence is what a machine hands out.
type Evidence struct {
	Version uint64       `cbor:"1,keyasint"`
	Binding Binding      `cbor:"2,keyasint"`
	Role    attest.Role  `cbor:"3,keyasint"`
	Nonce   attest.Nonce `cbor:"4,keyasint"`
	// SPKI is the machine's TLS key of this boot, a DER SubjectPublicKeyInfo.
	SPKI []byte `cbor:"5,keyasint"`
	// Config is the digest of the machine's configuration, as measured into
	// PCR 14, and Claim the digest of the claim, as measured into PCR 15; zero
	// where the machine is unclaimed. Anyone may ask for evidence, and the
	// documents name the control plane and the owner: neither is in it.
	Config attest.Digest `cbor:"6,keyasint"`
	Claim  attest.Digest `cbor:"7,keyasint"`
	TPM    TPM           `cbor:"8,keyasint"`
	Batch  Batch         `cbor:"9,keyasint"`
	// ReferenceValues carry their own proof and are outside the binding.
	ReferenceValues ReferenceValues `cbor:"10,keyasint"`
}

// TPM is what a TPM 2.0 says.
type TPM struct {
	// EKCertificate is DER.
	EKCertificate []byte `cbor:"1,keyasint"`
	// AKPublic is a TPMT_PUBLIC, Quote a TPMS_ATTEST, Signature a
	// TPMT_SIGNATURE (TPM 2.0 Part 2, sections 12.2.4, 10.12.12, 11.3.4).
	AKPublic  []byte `cbor:"2,keyasint"`
	Quote     []byte `cbor:"3,keyasint"`
	Signature []byte `cbor:"4,keyasint"`
	// Registers are the SHA-256 bank's values by register number; the quote's
	// digest decides whether they are true.
	Registers map[uint8]attest.Digest `cbor:"5,keyasint"`
}

// Batch places this evidence's leaf in the tree that the quote signs.
type Batch struct {
	Count uint32          `cbor:"1,keyasint"`
	Index uint32          `cbor:"2,keyasint"`
	Path  []attest.Digest `cbor:"3,keyasint"`
}

// ReferenceValues are what the release's signer says about the release that should
// run (RFC 9334, section 8.3).
type ReferenceValues struct {
	Manifest []byte `cbor:"1,keyasint,omitempty"`
	Bundle   []byte `cbor:"2,keyasint,omitempty"`
	Proof    []byte `cbor:"3,keyasint,omitempty"`
}

// Encode returns the evidence's only encoding. It fails for no evidence that
// Decode returns.
func (e *Evidence) Encode() ([]byte, error) {
	b, err := canon.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding evidence: %w", err)
	}
	return b, nil
}

// Decode reads what Encode wrote and nothing else. Its errors are
// attest.ErrMalformed.
func Decode(b []byte) (*Evidence, error) {
	e := new(Evidence)
	if err := canon.Unmarshal("evidence", b, MaxBytes, e); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", attest.ErrMalformed, err)
	}
	return e, nil
}

func (e *Evidence) check() error {
	switch {
	case e.Version != Version:
		return fmt.Errorf("version %d, want %d", e.Version, Version)
	case e.Binding != BindingExporter:
		return fmt.Errorf("binding of unknown kind %d", e.Binding)
	case e.Role != attest.RoleServe && e.Role != attest.RoleEnrol:
		return fmt.Errorf("role %d is unknown", e.Role)
	case len(e.Batch.Path) > MaxPath:
		return fmt.Errorf("batch path has %d nodes, at most %d", len(e.Batch.Path), MaxPath)
	}
	for name, field := range map[string][]byte{
		"spki": e.SPKI, "ek_certificate": e.TPM.EKCertificate, "ak_public": e.TPM.AKPublic, "quote": e.TPM.Quote, "signature": e.TPM.Signature,
	} {
		if len(field) > MaxTPMStructure {
			return fmt.Errorf("%s has %d bytes, at most %d", name, len(field), MaxTPMStructure)
		}
	}
	return nil
}
