// Package azure reads what the paravisor of an Azure confidential VM leaves in
// the virtual TPM: the processor's report, and the runtime claims that it
// vouches for, with the TPM's attestation and endorsement keys among them.
//
// Invariants: no key is yielded that the report's data does not name, and
// everything outside the report and the claims is a hint of the host's that
// can only make parsing fail. The report itself is parsed and not verified:
// packages snp and tdx verify it, and its launch measurement says whether it
// was a paravisor that chose the report's data. Tried on synthetic reports,
// laid out as public ones are (kinvolk/azure-cvm-tooling, az-cvm-vtpm/test), not
// live.
package azure

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// Index is the TPM's NV index that holds the report.
const Index = 0x01400001

// The report (microsoft/openvmm, openhcl_attestation_protocol, igvm_attest/get.rs;
// Microsoft's "Azure confidential VM guest attestation design"): a header, the
// processor's report in a field of fixed size, a second header, the claims, and
// zeros up to the index's size. Integers are 32 bits, little-endian.
const (
	headerSize  = 32
	requestSize = 20
	requestAt   = headerSize + snp.ReportSize
	claimsAt    = requestAt + requestSize

	// MaxSize caps the content of the index with a quote behind it, in bytes.
	MaxSize = 16 << 10
	maxKeys = 16
)

// The kinds of report.
const (
	reportVBS = 1
	reportSNP = 2
	reportTVM = 3
	reportTDX = 4
)

// akCertificate is the one type of request that lands in the index.
const akCertificate = 2

// Report is what the index holds.
type Report struct {
	// SNP is the processor's report on AMD's, TDX the quote of the TD's report
	// on Intel's; the other is nil. Neither is verified yet.
	SNP *snp.Report
	TDX *tdx.Quote
	// Claims are the runtime claims, JSON, whose hash is the first half of the
	// report's data.
	Claims []byte
	// AK is the key that the virtual TPM keeps at the handle of its attestation
	// key, EK its endorsement key, each RSA-2048; EK is nil where the paravisor
	// is too old to name it. It derives EK from the TPM's own seed each time,
	// while whoever had the owner's authorization in an earlier boot can have put
	// another key of theirs at AK's handle (microsoft/openvmm, tpm_lib,
	// create_ak_pub): an activation tells.
	AK, EK *rsa.PublicKey
	// UserData is what the guest wrote into index 0x01400002 before it had the
	// report made; nil where the paravisor is too old to say.
	UserData []byte
}

// Parse reads the content of Index, at most MaxSize bytes, and holds the
// report's data against the hash of the claims. On TDX the index has a report
// that this processor alone can check; the quote of it stands behind the
// claims, as WithQuote puts it there. Errors are attest.ErrMalformed and
// attest.ErrBinding.
func Parse(b []byte) (*Report, error) {
	if len(b) < claimsAt || len(b) > MaxSize {
		return nil, malformed("has %d bytes, want %d to %d", len(b), claimsAt, MaxSize)
	}
	claims, rest, err := split(b)
	if err != nil {
		return nil, err
	}
	r := &Report{Claims: bytes.Clone(claims)}
	data, err := r.readHardware(b, rest)
	if err != nil {
		return nil, err
	}
	if err := bound(data, field(b, requestAt, 3), claims); err != nil {
		return nil, err
	}
	return r, r.readClaims()
}

// readHardware reads the processor's report and answers its data.
func (r *Report) readHardware(b, rest []byte) (data [64]byte, err error) {
	hardware := b[headerSize:requestAt]
	switch kind := field(b, requestAt, 2); kind {
	case reportSNP:
		if !zero(rest) {
			return data, malformed("has something behind its claims")
		}
		if r.SNP, err = snp.Parse(hardware); err != nil {
			return data, err
		}
		return r.SNP.ReportData, nil
	case reportTDX:
		if zero(rest) {
			return data, malformed("has a report of tdx and no quote of it")
		}
		if r.TDX, err = tdx.Parse(rest); err != nil {
			return data, err
		}
		return r.TDX.Report.ReportData, sameDomain(hardware, &r.TDX.Report)
	case reportVBS, reportTVM:
		return data, malformed("has a report of %s, which is not read here", [...]string{1: "vbs", 3: "a trusted vm"}[kind])
	default:
		return data, malformed("has unknown report type %d", kind)
	}
}

// split checks both headers and returns the claims and what follows them.
func split(b []byte) (claims, rest []byte, err error) {
	if string(b[:4]) != "HCLA" {
		return nil, nil, malformed("has signature %q, want HCLA", b[:4])
	}
	size, length := uint64(field(b, requestAt, 0)), uint64(field(b, requestAt, 4))
	version, request, status := field(b, 0, 1), field(b, 0, 3), field(b, 0, 4)
	switch {
	case version != 1 && version != 2:
		return nil, nil, malformed("has unknown version %d", version)
	case field(b, requestAt, 1) != 1:
		return nil, nil, malformed("has unknown request version %d", field(b, requestAt, 1))
	case request != akCertificate || status != 0 || !zero(b[20:headerSize]):
		return nil, nil, malformed("has request type %d and status %d, want %d and 0", request, status, akCertificate)
	case claimsAt+length > uint64(len(b)) || size != requestSize+length || uint64(field(b, 0, 2)) != claimsAt+length:
		return nil, nil, malformed("has claims of %d bytes that its sizes do not agree on", length)
	}
	return b[claimsAt : claimsAt+length], b[claimsAt+length:], nil
}

// bound compares the report's data with the hash of the claims, zeros behind
// it. The type of hash is a hint: a wrong one does not match.
func bound(data [64]byte, hash uint32, claims []byte) error {
	var want [64]byte
	switch hash {
	case 1:
		sum := sha256.Sum256(claims)
		copy(want[:], sum[:])
	case 2:
		sum := sha512.Sum384(claims)
		copy(want[:], sum[:])
	case 3:
		want = sha512.Sum512(claims)
	default:
		return malformed("has unknown hash type %d", hash)
	}
	if data != want {
		return fmt.Errorf("%w: azure's report data is not the hash of the runtime claims", attest.ErrBinding)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: azure report %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
}

// field is the i-th integer behind at.
func field(b []byte, at, i int) uint32 { return binary.LittleEndian.Uint32(b[at+4*i:]) }

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
