// Package evidence is the wire form of what a machine hands out to prove what
// it is.
//
// Invariants: deterministic CBOR with an integer version; an unknown version,
// field, kind of binding, report or role is refused; every length and count is
// capped before the bytes are looked at. Decoding proves nothing: that is
// package verifier.
package evidence

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Version is the only version of evidence.
const Version = 3

// Caps, in bytes.
const (
	// MaxBytes caps a whole piece of evidence, endorsements included.
	MaxBytes = 1 << 20
	// MaxTPMStructure caps each of the TPM's structures and certificates; the
	// largest, an RSA-4096 endorsement certificate, has about 2 KiB.
	MaxTPMStructure = 8 << 10
	// MaxPath caps the depth of a batch tree: 2^20 leaves in one quote.
	MaxPath = 20
	// MaxReport caps a hardware report: a TDX quote with its certificates has
	// about 8 KiB, a NitroTPM document at most 16.
	MaxReport = 16 << 10
	// MaxReports is one of each kind.
	MaxReports = 4
	// MaxReportCertificates caps the certificates beside a report, as the
	// kernel's auxblob has them; those of SEV-SNP have about 6 KiB.
	MaxReportCertificates = 32 << 10
	// MaxEventLog caps the firmware's event log; those of clouds have 20 to 45
	// KiB.
	MaxEventLog = 128 << 10
	// MaxEndorsements caps what others vouch with: certificates of 1 to 2 KiB,
	// revocation lists of 1 to 100, levels of firmware of 10.
	MaxEndorsements = 256 << 10
	// MaxIntermediates caps the certificates between a key's certificate and
	// its root, MaxRevocationLists the lists.
	MaxIntermediates   = 4
	MaxRevocationLists = 16
)

// Binding says what the evidence is bound to.
type Binding uint8

// BindingExporter is the TLS 1.3 exporter together with the key: the only kind.
const BindingExporter Binding = 1

// Evidence is what a machine hands out. The tags say how Encode writes it; it
// is written and read by hand, since it is on every connection.
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
	// Reports are the processor's or the cloud's word, at most one of each
	// kind, by ascending kind. The quote names them and they name the quote's
	// key.
	Reports []Report `cbor:"11,keyasint,omitempty"`
	// EventLog is the firmware's log of what it measured (TCG PC Client
	// Platform Firmware Profile, section 10). It explains and proves nothing.
	EventLog []byte `cbor:"12,keyasint,omitempty"`
	// Endorsements are an encoded Endorsements. They carry their own signatures
	// and are outside the binding. Encoded apart, they are the same bytes in
	// every piece of evidence of one boot.
	Endorsements []byte `cbor:"13,keyasint"`
}

// TPM is what a TPM 2.0 says.
type TPM struct {
	// AKPublic is a TPMT_PUBLIC, Quote a TPMS_ATTEST, Signature a
	// TPMT_SIGNATURE (TPM 2.0 Part 2, sections 12.2.4, 10.12.12, 11.3.4).
	AKPublic  []byte `cbor:"1,keyasint"`
	Quote     []byte `cbor:"2,keyasint"`
	Signature []byte `cbor:"3,keyasint"`
	// Registers are the SHA-256 bank's values in the order of tpm.Selection;
	// the quote's digest decides whether they are true.
	Registers []attest.Digest `cbor:"4,keyasint"`
}

// Batch places this evidence's leaf in the tree that the quote signs.
type Batch struct {
	Count uint32          `cbor:"1,keyasint"`
	Index uint32          `cbor:"2,keyasint"`
	Path  []attest.Digest `cbor:"3,keyasint"`
}

// Kind says what made a report.
type Kind uint8

// The kinds of reports. Zero is refused.
const (
	// KindSNP is an AMD SEV-SNP attestation report.
	KindSNP Kind = 1
	// KindTDX is an Intel TDX quote.
	KindTDX Kind = 2
	// KindNitroTPM is an AWS NitroTPM attestation document.
	KindNitroTPM Kind = 3
	// KindAzure is what an Azure confidential VM's paravisor leaves in its TPM,
	// as azure.Parse reads it.
	KindAzure Kind = 4
)

// Report is one hardware report with the certificates that came with it.
type Report struct {
	Kind   Kind   `cbor:"1,keyasint"`
	Report []byte `cbor:"2,keyasint"`
	// Certificates are as the kernel's auxblob has them; empty where the
	// report holds its own.
	Certificates []byte `cbor:"3,keyasint,omitempty"`
}

// ReferenceValues are what the release's signer says about the release that should
// run (RFC 9334, section 8.3).
type ReferenceValues struct {
	Manifest []byte `cbor:"1,keyasint,omitempty"`
	Bundle   []byte `cbor:"2,keyasint,omitempty"`
	// Proof shows that the release stands in a transparency log.
	Proof []byte `cbor:"3,keyasint,omitempty"`
}

// ReportsDigest is attest.ReportsDigest of the evidence's reports.
func (e *Evidence) ReportsDigest() attest.Digest {
	var parts [2 * MaxReports][]byte
	fields := parts[:0]
	for i := range e.Reports {
		r := &e.Reports[i]
		fields = append(fields, []byte{byte(r.Kind)}, r.Report)
	}
	return attest.ReportsDigest(fields...)
}

// check refuses what Encode writes and no verifier reads.
func (e *Evidence) check() error {
	switch {
	case e.Version != Version:
		return malformed("version %d, want %d", e.Version, Version)
	case e.Binding != BindingExporter:
		return malformed("binding of unknown kind %d", e.Binding)
	case e.Role != attest.RoleServe && e.Role != attest.RoleEnrol:
		return malformed("role %d is unknown", e.Role)
	}
	for i, r := range e.Reports {
		switch {
		case r.Kind < KindSNP || r.Kind > KindAzure:
			return malformed("reports[%d] is of unknown kind %d", i, r.Kind)
		case i > 0 && e.Reports[i-1].Kind >= r.Kind:
			return malformed("reports[%d] is out of order or repeated", i)
		}
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: evidence: %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
}
