// Package tpm parses and verifies what a TPM 2.0 signs. It decides whether
// bytes are genuine and never whether they are good: that is package verifier.
//
// Invariants: every structure is capped before it is parsed, has one encoding
// and no trailing bytes, and a key is only accepted with the attributes that
// make it what it claims to be. No function here touches a device.
package tpm

import (
	"github.com/google/go-tpm/tpm2"
)

// maxStructure caps a TPM structure from outside; the largest parsed here has
// a few hundred bytes.
const maxStructure = 2 << 10

// Selection is the registers that every quote covers, in ascending order:
// design promise 3.
var Selection = [...]uint8{0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 14, 15}

// selected is Selection as a quote's bitmap of registers 0 to 23, the lowest
// bit first.
var selected = func() (bitmap [3]byte) {
	for _, r := range Selection {
		bitmap[r/8] |= 1 << (r % 8)
	}
	return bitmap
}()

// PCRSelection is Selection in the SHA-256 bank, as the TPM takes it.
func PCRSelection() tpm2.TPMLPCRSelection { return SelectSHA256(Selection[:]...) }

// SelectSHA256 selects registers below 24 of the SHA-256 bank.
func SelectSHA256(registers ...uint8) tpm2.TPMLPCRSelection {
	bitmap := make([]byte, 3)
	for _, r := range registers {
		bitmap[r/8] |= 1 << (r % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: bitmap},
	}}
}
