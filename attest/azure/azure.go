// Package azure reads what the paravisor of an Azure confidential VM leaves in
// the virtual TPM: the processor's report, and the runtime claims that it
// vouches for, with the TPM's attestation key among them.
//
// Invariants: no key is yielded that the report's data does not name, and
// everything outside the report and the claims is a hint of the host's that
// can only make parsing fail. The report itself is parsed and not verified:
// package snp verifies it, and its launch measurement and VMPL say
// whether it was a paravisor that chose the report's data. Tried on public
// reports, not live.
package azure

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/snp"
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

	// MaxSize caps the content of the index, in bytes.
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

// akID is the key id of the TPM's attestation key among the claims.
const akID = "HCLAkPub"

// Report is what the index holds, for SEV-SNP.
type Report struct {
	// SNP is the processor's report. It is not verified yet.
	SNP *snp.Report
	// Claims are the runtime claims, JSON, whose hash is the first half of the
	// report's data.
	Claims []byte
	// AK is the virtual TPM's attestation key, RSA-2048.
	AK *rsa.PublicKey
	// UserData is what the guest wrote into index 0x01400002 before it had the
	// report made; nil where the paravisor is too old to say.
	UserData []byte
}

// Parse reads the content of Index, at most MaxSize bytes, and holds the
// report's data against the hash of the claims. A report of another processor
// than SEV-SNP is refused. Errors are attest.ErrMalformed and
// attest.ErrBinding.
func Parse(b []byte) (*Report, error) {
	if len(b) < claimsAt || len(b) > MaxSize {
		return nil, malformed("has %d bytes, want %d to %d", len(b), claimsAt, MaxSize)
	}
	claims, err := split(b)
	if err != nil {
		return nil, err
	}
	report, err := snp.Parse(b[headerSize:requestAt])
	if err != nil {
		return nil, err
	}
	if err := bound(report, field(b, requestAt, 3), claims); err != nil {
		return nil, err
	}
	r := &Report{SNP: report, Claims: bytes.Clone(claims)}
	return r, r.readClaims()
}

// split checks both headers and returns the claims.
func split(b []byte) ([]byte, error) {
	if string(b[:4]) != "HCLA" {
		return nil, malformed("has signature %q, want HCLA", b[:4])
	}
	switch kind := field(b, requestAt, 2); kind {
	case reportSNP:
	case reportVBS, reportTVM, reportTDX:
		return nil, malformed("has a report of %s, of which none is read here", [...]string{1: "vbs", 3: "a trusted vm", 4: "tdx"}[kind])
	default:
		return nil, malformed("has unknown report type %d", kind)
	}
	size, length := uint64(field(b, requestAt, 0)), uint64(field(b, requestAt, 4))
	version, request, status := field(b, 0, 1), field(b, 0, 3), field(b, 0, 4)
	switch {
	case version != 1 && version != 2:
		return nil, malformed("has unknown version %d", version)
	case field(b, requestAt, 1) != 1:
		return nil, malformed("has unknown request version %d", field(b, requestAt, 1))
	case request != akCertificate || status != 0 || !zero(b[20:headerSize]):
		return nil, malformed("has request type %d and status %d, want %d and 0", request, status, akCertificate)
	case claimsAt+length > uint64(len(b)) || size != requestSize+length || uint64(field(b, 0, 2)) != claimsAt+length:
		return nil, malformed("has claims of %d bytes that its sizes do not agree on", length)
	case !zero(b[claimsAt+length:]):
		return nil, malformed("has something behind its claims")
	}
	return b[claimsAt : claimsAt+length], nil
}

// bound compares the report's data with the hash of the claims, zeros behind
// it. The type of hash is a hint: a wrong one does not match.
func bound(r *snp.Report, hash uint32, claims []byte) error {
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
	if r.ReportData != want {
		return fmt.Errorf("%w: azure's report data is not the hash of the runtime claims", attest.ErrBinding)
	}
	return nil
}

// runtimeClaims are those that are read. Others are the paravisor's affair,
// which adds some with each of its versions.
type runtimeClaims struct {
	Keys     []jwk   `json:"keys"`
	UserData *string `json:"user-data"`
}

// jwk is a key as RFC 7517 and RFC 7518, section 6.3 have it.
type jwk struct {
	ID       string `json:"kid"`
	Type     string `json:"kty"`
	Modulus  string `json:"n"`
	Exponent string `json:"e"`
}

func (r *Report) readClaims() error {
	var claims runtimeClaims
	if err := json.Unmarshal(r.Claims, &claims); err != nil {
		return malformed("has claims that do not parse: %v", err)
	}
	if len(claims.Keys) > maxKeys {
		return malformed("has %d keys among its claims, at most %d", len(claims.Keys), maxKeys)
	}
	for _, key := range claims.Keys {
		if key.ID != akID {
			continue
		}
		if r.AK != nil {
			return malformed("has more than one %s among its claims", akID)
		}
		ak, err := key.rsa()
		if err != nil {
			return err
		}
		r.AK = ak
	}
	if r.AK == nil {
		return malformed("has no %s among its claims", akID)
	}
	return r.readUserData(claims.UserData)
}

func (r *Report) readUserData(text *string) error {
	if text == nil {
		return nil
	}
	const size = 64
	b, err := hex.DecodeString(*text)
	if err != nil || len(b) != size {
		return malformed("has user-data that is not %d bytes in hex", size)
	}
	r.UserData = b
	return nil
}

func (k jwk) rsa() (*rsa.PublicKey, error) {
	const bits = 2048
	n, err := base64.RawURLEncoding.Strict().DecodeString(k.Modulus)
	modulus := new(big.Int).SetBytes(n)
	if err != nil || k.Type != "RSA" || k.Exponent != "AQAB" || len(n) != bits/8 || modulus.BitLen() != bits {
		return nil, malformed("has an %s that is not RSA-%d with exponent 65537", akID, bits)
	}
	return &rsa.PublicKey{N: modulus, E: 65537}, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: azure report %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
}

// field is the i-th integer behind at.
func field(b []byte, at, i int) uint32 { return binary.LittleEndian.Uint32(b[at+4*i:]) }

func zero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }
