package tdx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// MaxQuote caps a quote, bytes. One has about 5 KiB; the kernel's buffer for it
// has 8 KiB, of which some platforms hand out all.
const MaxQuote = 16 << 10

// The constants of the quote's header (Intel TDX DCAP Quoting Library API,
// appendix 3.1).
const (
	keyTypeP256 = 2
	teeTDX      = 0x81
)

// intelQE is the quoting enclave's vendor: Intel, the only one that the
// collateral here speaks of.
var intelQE = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// The kinds of certification data (appendix 3.1, "QE certification data").
const (
	certificationPCKChain = 5
	certificationQEReport = 6
)

// Quote is a TDX quote as its platform's quoting enclave wrote it. Nothing in
// it is verified until Endorsement.Check says so.
type Quote struct {
	// Version is 4 or 5.
	Version uint16
	// Reserved stood for enclave versions in early drafts and is read by nobody.
	Reserved [4]byte
	// UserData is the quoting enclave's own; its first 16 bytes name the
	// platform to Intel's quoting service.
	UserData [20]byte
	Report   Report
	// QE is the quoting enclave's report, which vouches for the key that signed
	// the quote.
	QE QEReport
	// QEAuth is what the enclave hashes beside that key, at most 64 KiB.
	QEAuth []byte
	// PCKChain is the platform's certificates, leaf first, in PEM.
	PCKChain []byte

	signed       []byte
	signature    [64]byte
	key          [64]byte
	qeSigned     []byte
	qeSignature  [64]byte
	attestation  *ecdsa.PublicKey
	keyAndAuthID [sha256.Size]byte
}

// Parse reads a quote of version 4 or 5 with a TD report of TDX 1.0 or 1.5, a
// P-256 attestation key and the platform's certificates in it. Zeros may
// follow, since some platforms hand out the whole buffer; nothing else may.
// The error is attest.ErrMalformed, with the field.
func Parse(raw []byte) (*Quote, error) {
	if len(raw) > MaxQuote {
		return nil, fmt.Errorf("%w: quote has %d bytes, at most %d", attest.ErrMalformed, len(raw), MaxQuote)
	}
	q := new(Quote)
	r := &reader{name: "quote", rest: raw}
	if err := q.header(r); err != nil {
		return nil, err
	}
	if err := q.body(r); err != nil {
		return nil, err
	}
	q.signed = raw[:len(raw)-len(r.rest)]
	signature := r.take("signature data", int(r.uint32("signature size")))
	if r.err == nil && !allZero(r.rest) {
		return nil, fmt.Errorf("%w: quote: something other than zeros follows it", attest.ErrMalformed)
	}
	if r.err != nil {
		return nil, r.err
	}
	return q, q.authentication(signature)
}

func (q *Quote) header(r *reader) error {
	q.Version = r.uint16("version")
	keyType := r.uint16("attestation key type")
	tee := r.uint32("tee type")
	r.fill("reserved", q.Reserved[:])
	var vendor [16]byte
	r.fill("qe vendor", vendor[:])
	r.fill("user data", q.UserData[:])
	switch {
	case r.err != nil:
		return r.err
	case q.Version != 4 && q.Version != 5:
		return fmt.Errorf("%w: quote: version %d is unknown", attest.ErrMalformed, q.Version)
	case keyType != keyTypeP256:
		return fmt.Errorf("%w: quote: attestation key type %d is unknown", attest.ErrMalformed, keyType)
	case tee != teeTDX:
		return fmt.Errorf("%w: quote: tee type %#x is not tdx", attest.ErrMalformed, tee)
	case vendor != intelQE:
		return fmt.Errorf("%w: quote: qe vendor %x is unknown", attest.ErrMalformed, vendor)
	}
	return nil
}

// body reads the TD report. Version 5 says its kind and size first; version 4
// has TDX 1.0's.
func (q *Quote) body(r *reader) error {
	q.Report.Kind = TD10
	if q.Version == 5 {
		q.Report.Kind = ReportKind(r.uint16("body type"))
		size := r.uint32("body size")
		if r.err == nil && int64(size) != int64(q.Report.Kind.size()) {
			return fmt.Errorf("%w: quote: body type %d with %d bytes is unknown", attest.ErrMalformed, q.Report.Kind, size)
		}
	}
	q.Report.read(r)
	return r.err
}

// authentication reads the quote's signature data (appendix 3.2, "ECDSA 256-bit
// Quote Signature Data").
func (q *Quote) authentication(b []byte) error {
	r := &reader{name: "quote signature data", rest: b}
	r.fill("signature", q.signature[:])
	r.fill("attestation key", q.key[:])
	inner, err := certification(r, certificationQEReport)
	if err != nil {
		return err
	}
	r = &reader{name: "qe certification data", rest: inner}
	q.qeSigned = r.take("qe report", qeReportSize)
	r.fill("qe report signature", q.qeSignature[:])
	q.QEAuth = r.take("qe authentication data", int(r.uint16("qe authentication data size")))
	if q.PCKChain, err = certification(r, certificationPCKChain); err != nil {
		return err
	}
	if q.QE, err = parseQEReport(q.qeSigned); err != nil {
		return err
	}
	return q.readKey()
}

// certification reads one piece of certification data, which must be of the
// given kind and the last in r.
func certification(r *reader, kind uint16) ([]byte, error) {
	if got := r.uint16("certification data type"); r.err == nil && got != kind {
		return nil, fmt.Errorf("%w: %s: certification data of type %d, want %d", attest.ErrMalformed, r.name, got, kind)
	}
	b := r.take("certification data", int(r.uint32("certification data size")))
	return b, r.end()
}

func (q *Quote) readKey() error {
	point := append([]byte{4}, q.key[:]...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return fmt.Errorf("%w: attestation key: %w", attest.ErrMalformed, err)
	}
	q.attestation = key
	h := sha256.New()
	h.Write(q.key[:])
	h.Write(q.QEAuth)
	h.Sum(q.keyAndAuthID[:0])
	return nil
}
