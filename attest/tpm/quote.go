package tpm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
)

// VerifyQuote checks that ak signed quote, a TPMS_ATTEST, over extra and over
// exactly Selection with these register values. Errors are
// attest.ErrMalformed, attest.ErrSignature, attest.ErrBinding or
// attest.ErrRegisters.
func VerifyQuote(ak *AK, quote, signature []byte, extra attest.Digest, registers map[uint8]attest.Digest) error {
	if err := ak.verify(quote, signature); err != nil {
		return err
	}
	a, err := unmarshal[tpm2.TPMSAttest]("quote", quote)
	if err != nil {
		return err
	}
	if a.Magic != tpm2.TPMGeneratedValue || a.Type != tpm2.TPMSTAttestQuote {
		return fmt.Errorf("%w: quote is of type %#x", attest.ErrSignature, uint16(a.Type))
	}
	if !bytes.Equal(a.ExtraData.Buffer, extra[:]) {
		return fmt.Errorf("%w: quote answers something else", attest.ErrBinding)
	}
	info, err := a.Attested.Quote()
	if err != nil {
		return fmt.Errorf("%w: quote: %w", attest.ErrMalformed, err)
	}
	return checkRegisters(info, registers)
}

func (k *AK) verify(message, signature []byte) error {
	s, err := unmarshal[tpm2.TPMTSignature]("signature", signature)
	if err != nil {
		return err
	}
	ecc, err := s.Signature.ECDSA()
	if err != nil || ecc.Hash != tpm2.TPMAlgSHA256 {
		return fmt.Errorf("%w: quote is not signed with ECDSA and SHA-256", attest.ErrSignature)
	}
	digest := sha256.Sum256(message)
	r, v := new(big.Int).SetBytes(ecc.SignatureR.Buffer), new(big.Int).SetBytes(ecc.SignatureS.Buffer)
	if !ecdsa.Verify(k.public, digest[:], r, v) {
		return fmt.Errorf("%w: quote", attest.ErrSignature)
	}
	return nil
}

func checkRegisters(info *tpm2.TPMSQuoteInfo, registers map[uint8]attest.Digest) error {
	if !bytes.Equal(tpm2.Marshal(info.PCRSelect), tpm2.Marshal(PCRSelection())) {
		return fmt.Errorf("%w: quote covers other registers than %v", attest.ErrRegisters, Selection)
	}
	if len(registers) != len(Selection) {
		return fmt.Errorf("%w: %d register values, want %d", attest.ErrRegisters, len(registers), len(Selection))
	}
	h := sha256.New()
	for _, r := range Selection {
		value, ok := registers[r]
		if !ok {
			return fmt.Errorf("%w: no value for pcr%d", attest.ErrRegisters, r)
		}
		h.Write(value[:])
	}
	if !bytes.Equal(h.Sum(nil), info.PCRDigest.Buffer) {
		return fmt.Errorf("%w: values are not the ones quoted", attest.ErrRegisters)
	}
	return nil
}
