package evidence

import (
	"math"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// The fields of each map, by number, as the types' tags have them.
const (
	evidenceRequired = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<13
	evidenceOptional = 1<<11 | 1<<12
	tpmRequired      = 1<<1 | 1<<2 | 1<<3 | 1<<4
	batchRequired    = 1<<1 | 1<<2 | 1<<3
	reportRequired   = 1<<1 | 1<<2
	reportOptional   = 1 << 3
	valuesOptional   = 1<<1 | 1<<2 | 1<<3
)

// maxRegisters is every register of a bank.
const maxRegisters = 24

// Encode returns the evidence's only encoding, which is canon.Marshal's too.
// The error is always nil.
func (e *Evidence) Encode() ([]byte, error) {
	w := canon.Writer{B: make([]byte, 0, e.size())}
	w.Map(11 + present(len(e.Reports) > 0) + present(len(e.EventLog) > 0))
	for key, n := range [...]uint64{1: e.Version, 2: uint64(e.Binding), 3: uint64(e.Role)} {
		if key > 0 {
			w.Uint(uint64(key))
			w.Uint(n)
		}
	}
	for i, b := range [...][]byte{e.Nonce[:], e.SPKI, e.Config[:], e.Claim[:]} {
		w.Uint(uint64(4 + i))
		w.Bytes(b)
	}
	w.Uint(8)
	e.TPM.encode(&w)
	w.Uint(9)
	e.Batch.encode(&w)
	w.Uint(10)
	e.ReferenceValues.encode(&w)
	e.encodeReports(&w)
	if len(e.EventLog) > 0 {
		w.Uint(12)
		w.Bytes(e.EventLog)
	}
	w.Uint(13)
	w.Bytes(e.Endorsements)
	return w.B, nil
}

// size is at least as much as the encoding takes.
func (e *Evidence) size() int {
	const heads, digest = 256, 34
	size := heads + len(e.SPKI) + len(e.EventLog) + len(e.Endorsements) +
		len(e.TPM.AKPublic) + len(e.TPM.Quote) + len(e.TPM.Signature) + digest*(len(e.TPM.Registers)+len(e.Batch.Path)) +
		len(e.ReferenceValues.Manifest) + len(e.ReferenceValues.Bundle) + len(e.ReferenceValues.Proof)
	for _, r := range e.Reports {
		size += len(r.Report) + len(r.Certificates) + 16
	}
	return size
}

func present(is bool) int {
	if is {
		return 1
	}
	return 0
}

func (t *TPM) encode(w *canon.Writer) {
	w.Map(4)
	for i, b := range [...][]byte{t.AKPublic, t.Quote, t.Signature} {
		w.Uint(uint64(1 + i))
		w.Bytes(b)
	}
	w.Uint(4)
	w.Digests(t.Registers)
}

func (b *Batch) encode(w *canon.Writer) {
	w.Map(3)
	w.Uint(1)
	w.Uint(uint64(b.Count))
	w.Uint(2)
	w.Uint(uint64(b.Index))
	w.Uint(3)
	w.Digests(b.Path)
}

func (v *ReferenceValues) encode(w *canon.Writer) {
	fields := [...][]byte{v.Manifest, v.Bundle, v.Proof}
	w.Map(present(len(v.Manifest) > 0) + present(len(v.Bundle) > 0) + present(len(v.Proof) > 0))
	for i, b := range fields {
		if len(b) > 0 {
			w.Uint(uint64(1 + i))
			w.Bytes(b)
		}
	}
}

func (e *Evidence) encodeReports(w *canon.Writer) {
	if len(e.Reports) == 0 {
		return
	}
	w.Uint(11)
	w.Array(len(e.Reports))
	for _, r := range e.Reports {
		w.Map(2 + present(len(r.Certificates) > 0))
		w.Uint(1)
		w.Uint(uint64(r.Kind))
		w.Uint(2)
		w.Bytes(r.Report)
		if len(r.Certificates) > 0 {
			w.Uint(3)
			w.Bytes(r.Certificates)
		}
	}
}

// Decode reads what Encode wrote and nothing else. What it returns points into
// b. Its errors are attest.ErrMalformed.
func Decode(b []byte) (*Evidence, error) {
	e := new(Evidence)
	r := canon.NewReader("evidence", b, MaxBytes)
	r.Struct("it", evidenceRequired, evidenceOptional, func(key uint64) { e.decode(r, key) })
	if err := r.Done(); err != nil {
		return nil, err
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *Evidence) decode(r *canon.Reader, key uint64) {
	switch key {
	case 1:
		e.Version = r.Uint(math.MaxUint64)
	case 2:
		e.Binding = Binding(r.Uint(math.MaxUint8))
	case 3:
		e.Role = attest.Role(r.Uint(math.MaxUint8))
	case 4:
		r.Exactly("nonce", e.Nonce[:])
	case 5:
		e.SPKI = r.Bytes("spki", MaxTPMStructure)
	case 6:
		r.Exactly("config", e.Config[:])
	case 7:
		r.Exactly("claim", e.Claim[:])
	case 8:
		r.Struct("tpm", tpmRequired, 0, func(key uint64) { e.TPM.decode(r, key) })
	case 9:
		r.Struct("batch", batchRequired, 0, func(key uint64) { e.Batch.decode(r, key) })
	case 10:
		r.Struct("reference values", 0, valuesOptional, func(key uint64) { e.ReferenceValues.decode(r, key) })
	case 11:
		e.decodeReports(r)
	case 12:
		e.EventLog = nonEmpty(r, "event_log", MaxEventLog)
	case 13:
		e.Endorsements = r.Bytes("endorsements", MaxEndorsements)
	}
}

func (t *TPM) decode(r *canon.Reader, key uint64) {
	switch key {
	case 1:
		t.AKPublic = r.Bytes("ak_public", MaxTPMStructure)
	case 2:
		t.Quote = r.Bytes("quote", MaxTPMStructure)
	case 3:
		t.Signature = r.Bytes("signature", MaxTPMStructure)
	case 4:
		t.Registers = r.Digests("registers", maxRegisters)
	}
}

func (b *Batch) decode(r *canon.Reader, key uint64) {
	switch key {
	case 1:
		b.Count = uint32(r.Uint(math.MaxUint32))
	case 2:
		b.Index = uint32(r.Uint(math.MaxUint32))
	case 3:
		b.Path = r.Digests("batch path", MaxPath)
	}
}

func (v *ReferenceValues) decode(r *canon.Reader, key uint64) {
	switch key {
	case 1:
		v.Manifest = nonEmpty(r, "manifest", MaxBytes)
	case 2:
		v.Bundle = nonEmpty(r, "bundle", MaxBytes)
	case 3:
		v.Proof = nonEmpty(r, "proof", MaxBytes)
	}
}

func (e *Evidence) decodeReports(r *canon.Reader) {
	e.Reports = make([]Report, r.Array("reports", MaxReports))
	if len(e.Reports) == 0 {
		r.Fail("reports is there and empty")
	}
	for i := range e.Reports {
		report := &e.Reports[i]
		r.Struct("report", reportRequired, reportOptional, func(key uint64) {
			switch key {
			case 1:
				report.Kind = Kind(r.Uint(math.MaxUint8))
			case 2:
				report.Report = r.Bytes("report", MaxReport)
			case 3:
				report.Certificates = nonEmpty(r, "report certificates", MaxReportCertificates)
			}
		})
	}
}

// nonEmpty is a field that is left out where there is nothing in it.
func nonEmpty(r *canon.Reader, field string, limit int) []byte {
	b := r.Bytes(field, limit)
	if len(b) == 0 {
		r.Fail("%s is there and empty", field)
	}
	return b
}
