package tdx

import (
	"encoding/binary"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// QEIdentity is how a genuine quoting enclave for TDX looks (Intel PCS API v4,
// "Enclave Identity V2", id TD_QE).
type QEIdentity struct {
	Window
	EvaluationDataNumber uint32
	MiscSelect           uint32
	MiscSelectMask       uint32
	Attributes           [16]byte
	AttributesMask       [16]byte
	MRSIGNER             [32]byte
	ISVPRODID            uint16
	// Levels rate the enclave's versions, newest first.
	Levels []SVNLevel
}

type wireIdentity struct {
	ID      string `json:"id"`
	Version int    `json:"version"`
	Window
	Evaluation     uint32               `json:"tcbEvaluationDataNumber"`
	MiscSelect     hexField             `json:"miscselect"`
	MiscSelectMask hexField             `json:"miscselectMask"`
	Attributes     hexField             `json:"attributes"`
	AttributesMask hexField             `json:"attributesMask"`
	MRSIGNER       hexField             `json:"mrsigner"`
	ISVPRODID      *uint16              `json:"isvprodid"`
	Levels         []wireLevel[wireSVN] `json:"tcbLevels"`
}

const nameIdentity = "qe identity"

// parseQEIdentity reads what Intel's service answers. The statement's signature
// is yet to be verified.
func parseQEIdentity(b []byte) (*QEIdentity, statement, error) {
	o, err := open(nameIdentity, b)
	if err != nil {
		return nil, statement{}, err
	}
	s, err := o.statement(nameIdentity, o.Identity)
	if err != nil {
		return nil, s, err
	}
	var w wireIdentity
	if err := strictjson.Unmarshal(s.body, &w); err != nil {
		return nil, s, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, nameIdentity, err)
	}
	q, err := w.read()
	return q, s, err
}

func (w *wireIdentity) read() (*QEIdentity, error) {
	if w.ID != "TD_QE" || w.Version != 2 {
		return nil, fmt.Errorf("%w: qe identity %.20q of version %d is unknown", attest.ErrMalformed, w.ID, w.Version)
	}
	if w.ISVPRODID == nil {
		return nil, fmt.Errorf("%w: qe identity has no isvprodid", attest.ErrMalformed)
	}
	q := &QEIdentity{Window: w.Window, EvaluationDataNumber: w.Evaluation, ISVPRODID: *w.ISVPRODID}
	if err := q.check(nameIdentity); err != nil {
		return nil, err
	}
	var misc, mask [4]byte
	for _, f := range []struct {
		name  string
		field hexField
		dst   []byte
	}{
		{"miscselect", w.MiscSelect, misc[:]},
		{"miscselectMask", w.MiscSelectMask, mask[:]},
		{"attributes", w.Attributes, q.Attributes[:]},
		{"attributesMask", w.AttributesMask, q.AttributesMask[:]},
		{"mrsigner", w.MRSIGNER, q.MRSIGNER[:]},
	} {
		if err := f.field.into(f.name+" of qe identity", f.dst); err != nil {
			return nil, err
		}
	}
	q.MiscSelect, q.MiscSelectMask = binary.LittleEndian.Uint32(misc[:]), binary.LittleEndian.Uint32(mask[:])
	var err error
	q.Levels, err = svnLevels(nameIdentity, w.Levels)
	return q, err
}

// match compares a quoting enclave with Intel's. The error is
// attest.ErrIdentity, with the field.
func (q *QEIdentity) match(r *QEReport) (*SVNLevel, error) {
	switch {
	case r.MRSIGNER != q.MRSIGNER:
		return nil, fmt.Errorf("%w: quoting enclave: mrsigner is not intel's", attest.ErrIdentity)
	case r.ISVPRODID != q.ISVPRODID:
		return nil, fmt.Errorf("%w: quoting enclave: isvprodid is %d, want %d", attest.ErrIdentity, r.ISVPRODID, q.ISVPRODID)
	case r.MiscSelect&q.MiscSelectMask != q.MiscSelect:
		return nil, fmt.Errorf("%w: quoting enclave: miscselect is %#x, want %#x", attest.ErrIdentity, r.MiscSelect, q.MiscSelect)
	case !masked(r.Attributes[:], q.AttributesMask[:], q.Attributes[:]):
		return nil, fmt.Errorf("%w: quoting enclave: attributes are %x, want %x", attest.ErrIdentity, r.Attributes, q.Attributes)
	}
	return pick("quoting enclave", q.Levels, r.ISVSVN)
}

// masked reports whether got is want in the bits of mask, where all three have
// one length.
func masked(got, mask, want []byte) bool {
	for i := range got {
		if got[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}
