// Package azuretest lays out what a paravisor leaves in the TPM's index, over
// reports of the stand-ins for AMD and Intel. All of it is synthetic.
//
// Invariants: nothing that ships imports it, and a report's data is the hash of
// the claims unless the test's edit says otherwise.
package azuretest

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/toolshed-cloud/shed/attest/snp"
	"github.com/toolshed-cloud/shed/attest/snp/snptest"
	"github.com/toolshed-cloud/shed/attest/tdx"
	"github.com/toolshed-cloud/shed/attest/tdx/tdxtest"
)

// RequestAt is where the second header begins.
const RequestAt = 32 + snp.ReportSize

// The types of hash, as the header numbers them.
const (
	SHA256 = 1
	SHA384 = 2
	SHA512 = 3
)

// Claims are laid out as a paravisor's, around the keys of its TPM.
func Claims(ak, ek *rsa.PublicKey) string {
	modulus := func(key *rsa.PublicKey) string { return base64.RawURLEncoding.EncodeToString(key.N.Bytes()) }
	return fmt.Sprintf(`{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"%s"},`+
		`{"kid":"HCLEkPub","key_ops":["encrypt"],"kty":"RSA","e":"AQAB","n":"%s"}],`+
		`"vm-configuration":{"secure-boot":true,"tpm-enabled":true},"user-data":"%s"}`,
		modulus(ak), modulus(ek), strings.Repeat("07", 64))
}

// ReportData is the hash of claims, of a type, as a report carries it.
func ReportData(claims string, hash uint32) (data [64]byte) {
	switch hash {
	case SHA384:
		sum := sha512.Sum384([]byte(claims))
		copy(data[:], sum[:])
	case SHA512:
		data = sha512.Sum512([]byte(claims))
	default:
		sum := sha256.Sum256([]byte(claims))
		copy(data[:], sum[:])
	}
	return data
}

// SNP is the content of the index on a processor of AMD's. edit may be nil.
func SNP(key *snptest.Key, claims string, hash uint32, edit func(*snp.Report)) []byte {
	report := key.Report(func(r *snp.Report) {
		r.ReportData = ReportData(claims, hash)
		if edit != nil {
			edit(r)
		}
	})
	return append(index(report, 2, hash, claims), make([]byte, 200)...)
}

// TDX is the content of the index on a processor of Intel's, with the quote
// behind its claims. edit may be nil; the report in the index is what is
// quoted.
func TDX(platform *tdxtest.Platform, claims string, hash uint32, edit func(*tdxtest.Draft)) []byte {
	var domain []byte
	quote := platform.Quote(ReportData(claims, hash), func(d *tdxtest.Draft) {
		if edit != nil {
			edit(d)
		}
		domain = Domain(&d.Report)
	})
	return append(index(domain, 4, hash, claims), quote...)
}

// Domain is a TD's report as the index holds it.
func Domain(r *tdx.Report) []byte {
	b := make([]byte, snp.ReportSize)
	b[0] = 0x81
	copy(b[128:], r.ReportData[:])
	le := binary.LittleEndian
	le.PutUint64(b[512:], r.TDAttributes)
	le.PutUint64(b[520:], r.XFAM)
	copy(b[528:], slices.Concat(r.MRTD[:], r.MRCONFIGID[:], r.MROWNER[:], r.MROWNERCONFIG[:], r.RTMR[0][:], r.RTMR[1][:], r.RTMR[2][:], r.RTMR[3][:]))
	return b
}

func index(report []byte, kind, hash uint32, claims string) []byte {
	n := uint32(len(claims))
	b := words([]byte("HCLA"), 1, RequestAt+20+n, 2, 0, 0, 0, 0)
	b = words(append(b, report...), 20+n, 1, kind, hash, n)
	return append(b, claims...)
}

func words(b []byte, all ...uint32) []byte {
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}
