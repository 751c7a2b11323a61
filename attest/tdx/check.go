package tdx

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
)

// Check verifies a quote of the endorsed platform: the platform's key signed
// the quoting enclave's report, which names the key that signed the quote, and
// enclave, TDX module and versions are ones that Intel rates. It costs two
// P-256 verifications. Whether the rating is good enough is the caller's to
// say. Errors are attest.ErrIdentity and attest.ErrSignature, with the field.
func (e *Endorsement) Check(q *Quote) (*Rating, error) {
	if err := e.verify(q); err != nil {
		return nil, err
	}
	return e.rate(q)
}

// verify checks what is signed, from the platform's key to the report.
func (e *Endorsement) verify(q *Quote) error {
	if !bytes.Equal(q.PCKChain, e.chain) {
		return fmt.Errorf("%w: quote comes with the certificates of another platform", attest.ErrIdentity)
	}
	if err := verifyP256("qe report", e.PCK.key, q.qeSigned, &q.qeSignature); err != nil {
		return err
	}
	if [sha256.Size]byte(q.QE.ReportData[:sha256.Size]) != q.keyAndAuthID || !allZero(q.QE.ReportData[sha256.Size:]) {
		return fmt.Errorf("%w: attestation key of quote is not the quoting enclave's", attest.ErrIdentity)
	}
	return verifyP256("quote", q.attestation, q.signed, &q.signature)
}
