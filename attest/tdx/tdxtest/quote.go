package tdxtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/toolshed-cloud/shed/attest/tdx"
)

// Draft is a quote before it is signed.
type Draft struct {
	// Version is 5 by default; version 4 has no room for TDX 1.5's fields.
	Version uint16
	// KeyType, TEE and Vendor are the header's: 2, 0x81 and Intel's.
	KeyType uint16
	TEE     uint32
	Vendor  [16]byte
	Report  tdx.Report
	QE      tdx.QEReport
	QEAuth  []byte
	// BodySize is what version 5 says of the report's size; zero is the truth.
	BodySize uint32
	// PCKChain is the certificates; those of the platform by default.
	PCKChain []byte
	// AttestationKey signs the quote, PCKKey the quoting enclave's report: the
	// platform's own by default.
	AttestationKey, PCKKey *ecdsa.PrivateKey
	// Bound is the key that the enclave's report names: AttestationKey where nil.
	Bound *ecdsa.PublicKey
	// Trailing follows the quote.
	Trailing []byte
}

// Quote signs a quote over report data. edit may be nil; it sees the draft with
// all of it set.
func (p *Platform) Quote(reportData [64]byte, edit func(*Draft)) []byte {
	p.tb.Helper()
	d := &Draft{
		Version: 5, KeyType: 2, TEE: 0x81, Report: p.Report, QE: p.QE,
		Vendor: [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07},
		QEAuth: make([]byte, 32), PCKChain: p.Chain(), AttestationKey: p.qeKey, PCKKey: p.pckKey,
	}
	d.Report.ReportData = reportData
	if edit != nil {
		edit(d)
	}
	return p.finish(d)
}

// Parsed is Quote, parsed.
func (p *Platform) Parsed(reportData [64]byte, edit func(*Draft)) *tdx.Quote {
	p.tb.Helper()
	q, err := tdx.Parse(p.Quote(reportData, edit))
	if err != nil {
		p.tb.Fatal(err)
	}
	return q
}

func (p *Platform) finish(d *Draft) []byte {
	le := binary.LittleEndian
	signed := d.head()
	key := p.point(&d.AttestationKey.PublicKey)
	bound := key
	if d.Bound != nil {
		bound = p.point(d.Bound)
	}
	digest := sha256.Sum256(slices.Concat(bound, d.QEAuth))
	copy(d.QE.ReportData[:], digest[:])
	qe := qeReport(&d.QE)
	inner := slices.Concat(qe, p.sign(d.PCKKey, qe), le.AppendUint16(nil, uint16(len(d.QEAuth))), d.QEAuth, certification(5, d.PCKChain))
	data := slices.Concat(p.sign(d.AttestationKey, signed), key, certification(6, inner))
	return slices.Concat(signed, le.AppendUint32(nil, uint32(len(data))), data, d.Trailing)
}

// head is what the attestation key signs: header and report.
func (d *Draft) head() []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, d.Version)
	b = le.AppendUint16(b, d.KeyType)
	b = le.AppendUint32(b, d.TEE)
	b = append(b, 0, 0, 0, 0)
	b = append(b, d.Vendor[:]...)
	b = append(b, make([]byte, 20)...)
	if d.Version < 5 {
		return append(b, tdReport(&d.Report)[:584]...)
	}
	body := tdReport(&d.Report)
	size := uint32(len(body))
	if d.BodySize != 0 {
		size = d.BodySize
	}
	b = le.AppendUint16(b, uint16(d.Report.Kind))
	return append(le.AppendUint32(b, size), body...)
}

func certification(kind uint16, data []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
}

func tdReport(r *tdx.Report) []byte {
	le := binary.LittleEndian
	b := slices.Concat(r.TEETCBSVN[:], r.MRSEAM[:], r.MRSIGNERSEAM[:], r.SEAMAttributes[:])
	b = le.AppendUint64(le.AppendUint64(b, r.TDAttributes), r.XFAM)
	b = slices.Concat(b, r.MRTD[:], r.MRCONFIGID[:], r.MROWNER[:], r.MROWNERCONFIG[:])
	for i := range r.RTMR {
		b = append(b, r.RTMR[i][:]...)
	}
	b = append(b, r.ReportData[:]...)
	if r.Kind == tdx.TD10 {
		return b
	}
	return slices.Concat(b, r.TEETCBSVN2[:], r.MRSERVICETD[:])
}

func qeReport(q *tdx.QEReport) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(slices.Clone(q.CPUSVN[:]), q.MiscSelect)
	b = slices.Concat(b, make([]byte, 28), q.Attributes[:], q.MRENCLAVE[:], make([]byte, 32), q.MRSIGNER[:], make([]byte, 96))
	b = le.AppendUint16(le.AppendUint16(b, q.ISVPRODID), q.ISVSVN)
	return slices.Concat(b, make([]byte, 60), q.ReportData[:])
}

// point is a key as a quote has it: x and y, 32 bytes each.
func (p *Platform) point(key *ecdsa.PublicKey) []byte {
	p.tb.Helper()
	uncompressed, err := key.Bytes()
	if err != nil {
		p.tb.Fatal(err)
	}
	return uncompressed[1:]
}

// sign signs as Intel writes it: r and s, 32 bytes each.
func (p *Platform) sign(key crypto.Signer, message []byte) []byte {
	p.tb.Helper()
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		p.tb.Fatal(err)
	}
	return slices.Concat(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32)))
}
