package evidence

import (
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// Endorsements are what others vouch with for the machine's keys (RFC 9334,
// section 8.2). Anybody may bring them.
type Endorsements struct {
	// EKCertificate is the endorsement key's, DER, and EKIntermediates are
	// those between it and its root.
	EKCertificate   []byte   `cbor:"1,keyasint"`
	EKIntermediates [][]byte `cbor:"2,keyasint,omitempty"`
	// ReportCertificates are DER certificates of the key that signs a hardware
	// report, where the report does not come with its own.
	ReportCertificates [][]byte `cbor:"3,keyasint,omitempty"`
	// RevocationLists are the lists of whichever issuers, DER.
	RevocationLists [][]byte `cbor:"4,keyasint,omitempty"`
	// TDX is an encoded tdx.Collateral.
	TDX []byte `cbor:"5,keyasint,omitempty"`
	// AKCertificate is the attestation key's own, DER, where a cloud certifies
	// it, and AKIntermediates are those between it and its root.
	AKCertificate   []byte   `cbor:"6,keyasint,omitempty"`
	AKIntermediates [][]byte `cbor:"7,keyasint,omitempty"`
}

// Encode returns the only encoding. It fails for nothing that
// DecodeEndorsements returns.
func (e *Endorsements) Encode() ([]byte, error) {
	b, err := canon.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding endorsements: %w", err)
	}
	return b, nil
}

// DecodeEndorsements reads what Encode wrote and nothing else. Errors are
// attest.ErrMalformed.
func DecodeEndorsements(b []byte) (*Endorsements, error) {
	e := new(Endorsements)
	if err := canon.Unmarshal("endorsements", b, MaxEndorsements, e); err != nil {
		return nil, err
	}
	for _, list := range [...]struct {
		name  string
		count int
		limit int
	}{
		{"ek_intermediates", len(e.EKIntermediates), MaxIntermediates},
		{"report_certificates", len(e.ReportCertificates), MaxIntermediates},
		{"revocation_lists", len(e.RevocationLists), MaxRevocationLists},
		{"ak_intermediates", len(e.AKIntermediates), MaxIntermediates},
	} {
		if list.count > list.limit {
			return nil, fmt.Errorf("%w: %s has %d entries, at most %d", attest.ErrMalformed, list.name, list.count, list.limit)
		}
	}
	return e, nil
}
