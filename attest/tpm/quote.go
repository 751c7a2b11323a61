package tpm

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
)

// Quote is what a TPM says of its registers, a TPMS_ATTEST of type quote (TPM
// 2.0 Part 2, section 10.12.12), after its signature was verified.
type Quote struct {
	// ExtraData is what the caller of the TPM had it sign along.
	ExtraData []byte
	// ResetCount counts the TPM's resets, RestartCount its resumptions; for most
	// keys from a number of each key's own, so that two of one key compare and no
	// more.
	ResetCount, RestartCount uint32
	Firmware                 uint64
	// Banks are the registers that are covered.
	Banks []Bank
	// Digest is the hash over the registers' values.
	Digest []byte
}

// Bank is the registers of one bank that a quote covers.
type Bank struct {
	// Hash is the bank's TPM_ALG_ID: 0x000B for SHA-256.
	Hash uint16
	// Bitmap has a bit for each register, the lowest bit of the first byte for
	// register 0.
	Bitmap []byte
}

// maxBanks caps the banks of one quote; a TPM has four or five.
const maxBanks = 8

// ParseQuote checks that ak signed quote, a TPMS_ATTEST, and reads it. What it
// covers and what it answers is the caller's to judge. Errors are
// attest.ErrMalformed or attest.ErrSignature.
func ParseQuote(ak *AK, quote, signature []byte) (*Quote, error) {
	if err := ak.verify(quote, signature); err != nil {
		return nil, err
	}
	w := newWire("quote", quote)
	if magic, kind := w.u32("magic"), w.u16("type"); w.err == nil && (magic != uint32(tpm2.TPMGeneratedValue) || kind != uint16(tpm2.TPMSTAttestQuote)) {
		return nil, fmt.Errorf("%w: quote is of type %#x", attest.ErrSignature, kind)
	}
	w.buffer("qualifiedSigner")
	q := &Quote{ExtraData: w.buffer("extraData")}
	w.u64("clock")
	q.ResetCount, q.RestartCount = w.u32("resetCount"), w.u32("restartCount")
	w.u8("safe")
	q.Firmware = w.u64("firmwareVersion")
	q.Banks = w.banks()
	q.Digest = w.buffer("pcrDigest")
	return q, w.done()
}

// banks reads a TPML_PCR_SELECTION.
func (w *wire) banks() []Bank {
	count := w.u32("pcrSelect")
	if w.err == nil && count > maxBanks {
		w.err = fmt.Errorf("%w: %s selects %d banks, at most %d", attest.ErrMalformed, w.name, count, maxBanks)
	}
	if w.err != nil {
		return nil
	}
	banks := make([]Bank, count)
	for i := range banks {
		banks[i] = Bank{Hash: w.u16("pcrSelect.hash"), Bitmap: w.take("pcrSelect.bitmap", int(w.u8("pcrSelect.size")))}
	}
	return banks
}

// VerifyQuote checks that ak signed quote, a TPMS_ATTEST, over extra and over
// exactly Selection with these values, and answers them by number beside what
// else the quote says. Errors are attest.ErrMalformed, attest.ErrSignature,
// attest.ErrBinding or attest.ErrRegisters.
func VerifyQuote(ak *AK, quote, signature []byte, extra attest.Digest, values []attest.Digest) (*Quote, *attest.Registers, error) {
	q, err := ParseQuote(ak, quote, signature)
	if err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(q.ExtraData, extra[:]) {
		return nil, nil, fmt.Errorf("%w: quote answers something else", attest.ErrBinding)
	}
	registers, err := q.registers(values)
	return q, registers, err
}

func (q *Quote) registers(values []attest.Digest) (*attest.Registers, error) {
	if len(q.Banks) != 1 || q.Banks[0].Hash != uint16(tpm2.TPMAlgSHA256) || !bytes.Equal(q.Banks[0].Bitmap, selected[:]) {
		return nil, fmt.Errorf("%w: quote covers other registers than %v of the SHA-256 bank", attest.ErrRegisters, Selection)
	}
	if len(values) != len(Selection) {
		return nil, fmt.Errorf("%w: %d register values, want %d", attest.ErrRegisters, len(values), len(Selection))
	}
	var registers attest.Registers
	h := sha256.New()
	for i, r := range Selection {
		h.Write(values[i][:])
		registers[r] = values[i]
	}
	var digest attest.Digest
	if !bytes.Equal(h.Sum(digest[:0]), q.Digest) {
		return nil, fmt.Errorf("%w: values are not the ones quoted", attest.ErrRegisters)
	}
	return &registers, nil
}
