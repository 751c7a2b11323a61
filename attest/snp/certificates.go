package snp

import (
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/chain"
)

// Certificates are what came with a report, in any order and of any worth.
type Certificates []*x509.Certificate

// ParseCertificates reads certificates one behind the other, all in PEM or all
// in DER. Errors are those of chain.ParseAll.
func ParseCertificates(b []byte) (Certificates, error) { return chain.ParseAll("snp_certificates", b) }

// Leaf is the one certificate that can endorse a report of signer, by its own
// marks, and the authorities among the others. The error is attest.ErrIdentity
// where there is none or more than one.
func (c Certificates) Leaf(signer Signer) (*x509.Certificate, []*x509.Certificate, error) {
	if signer == Unsigned {
		return nil, nil, fmt.Errorf("%w: the report is unsigned: its host masks the chip's key", attest.ErrIdentity)
	}
	var leaf *x509.Certificate
	var authorities []*x509.Certificate
	for _, candidate := range c {
		switch {
		case candidate.IsCA:
			authorities = append(authorities, candidate)
		case candidate.Subject.CommonName == "SEV-"+signer.String():
			if leaf != nil {
				return nil, nil, fmt.Errorf("%w: more than one certificate of a %s", attest.ErrIdentity, signer)
			}
			leaf = candidate
		}
	}
	if leaf == nil {
		return nil, nil, fmt.Errorf("%w: no certificate of a %s, with which the report says it is signed", attest.ErrIdentity, signer)
	}
	return leaf, authorities, nil
}

// The certificate table of an extended guest request: entries of a GUID, an
// offset and a length, closed by an entry of zeros, and the certificates
// behind them (AMD 56421, GHCB specification, "SNP Extended Guest Request").
const (
	entrySize  = 24
	guidSize   = 16
	maxEntries = 16
	// MaxTable caps a certificate table in bytes.
	MaxTable = 64 << 10
)

// GUIDs of the certificates, as their bytes stand in the table.
var guids = []string{
	"63da758de6644564adc5f4b93be8accd", // VCEK
	"a8074bc2a25a483eaae639c045a0b8a1", // VLEK
	"4ab7b379bbac4fe4a02f05aef327c782", // ASK or ASVK
	"c0b406a4a803495297433fb6014cd0ae", // ARK
}

// ParseTable reads a certificate table of at most MaxTable bytes. Entries under other GUIDs than a
// certificate's are the host's own and passed over. The error is
// attest.ErrMalformed.
func ParseTable(b []byte) (Certificates, error) {
	if len(b) > MaxTable {
		return nil, tableError("has %d bytes, at most %d", len(b), MaxTable)
	}
	var all Certificates
	for i := range maxEntries + 1 {
		at := i * entrySize
		if at+entrySize > len(b) {
			return nil, tableError("ends within its entries")
		}
		entry := b[at : at+entrySize]
		if zero(entry) {
			return all, nil
		}
		c, err := tableEntry(b, entry)
		if err != nil {
			return nil, err
		}
		if c != nil {
			all = append(all, c)
		}
	}
	return nil, tableError("has more than %d entries", maxEntries)
}

// tableEntry is the certificate of one entry, nil where it is something else.
func tableEntry(b, entry []byte) (*x509.Certificate, error) {
	guid := hex.EncodeToString(entry[:guidSize])
	offset, length := binary.LittleEndian.Uint32(entry[guidSize:]), binary.LittleEndian.Uint32(entry[guidSize+4:])
	if uint64(offset)+uint64(length) > uint64(len(b)) {
		return nil, tableError("has an entry %s of %d bytes at %d, past its end", guid, length, offset)
	}
	if !slices.Contains(guids, guid) {
		return nil, nil
	}
	return chain.Parse("snp_certificates."+guid, b[offset:offset+length])
}

func tableError(format string, args ...any) error {
	return fmt.Errorf("%w: snp certificate table %s", attest.ErrMalformed, fmt.Sprintf(format, args...))
}
