package azure

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/tdx"
)

// A TD's report before it is quoted (Intel TDX Module ABI Specification,
// "TDREPORT_STRUCT"): its type, its data, and what it says of the TD from
// attributes to the last RTMR. Its MAC is the processor's own affair.
const (
	domainSize   = 1024
	domainType   = 0x81
	domainDataAt = 128
	domainAt     = 512
	domainEnd    = 912
)

// sameDomain holds the report in the index against the quote of it: they say
// the same of the TD.
func sameDomain(hardware []byte, quoted *tdx.Report) error {
	if hardware[0] != domainType || !zero(hardware[domainSize:]) {
		return malformed("has a report of type %#x that is not tdx's", hardware[0])
	}
	le := binary.LittleEndian
	want := le.AppendUint64(le.AppendUint64(make([]byte, 0, domainEnd-domainAt), quoted.TDAttributes), quoted.XFAM)
	want = slices.Concat(want, quoted.MRTD[:], quoted.MRCONFIGID[:], quoted.MROWNER[:], quoted.MROWNERCONFIG[:])
	for i := range quoted.RTMR {
		want = append(want, quoted.RTMR[i][:]...)
	}
	if !bytes.Equal(hardware[domainAt:domainEnd], want) || !bytes.Equal(hardware[domainDataAt:domainDataAt+64], quoted.ReportData[:]) {
		return fmt.Errorf("%w: azure's quote is not of the report in the index", attest.ErrBinding)
	}
	return nil
}

// WithQuote is the content of Index as Parse reads it on TDX: what is behind
// the claims, which says nothing, makes room for the quote of the report in
// it. Errors are attest.ErrMalformed.
func WithQuote(index, quote []byte) ([]byte, error) {
	if len(index) < claimsAt || len(index) > MaxSize {
		return nil, malformed("has %d bytes, want %d to %d", len(index), claimsAt, MaxSize)
	}
	_, rest, err := split(index)
	if err != nil {
		return nil, err
	}
	if !zero(rest) {
		return nil, malformed("has something behind its claims")
	}
	return slices.Concat(index[:len(index)-len(rest)], quote), nil
}
