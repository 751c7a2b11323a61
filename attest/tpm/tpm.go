// Package tpm parses and verifies what a TPM 2.0 signs. It decides whether
// bytes are genuine and never whether they are good: that is package verifier.
//
// Invariants: every structure is capped before it is parsed and must marshal
// back to the same bytes, and a key is only accepted with the attributes that
// make it what it claims to be. No function here touches a device.
package tpm

import (
	"bytes"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
)

// maxStructure caps a TPM structure from outside; the largest parsed here has
// a few hundred bytes.
const maxStructure = 2 << 10

// Selection is the registers that every quote covers, in ascending order:
// design promise 3.
var Selection = [...]uint8{0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 14, 15}

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

// unmarshal reads one structure and refuses all that go-tpm would pass over:
// too many bytes, trailing bytes, a second encoding of the same value.
func unmarshal[T tpm2.Marshallable, P interface {
	*T
	tpm2.Unmarshallable
}](name string, b []byte) (*T, error) {
	if len(b) > maxStructure {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", attest.ErrMalformed, name, len(b), maxStructure)
	}
	v, err := tpm2.Unmarshal[T, P](b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", attest.ErrMalformed, name, err)
	}
	if !bytes.Equal(tpm2.Marshal(*v), b) {
		return nil, fmt.Errorf("%w: %s has a second encoding or trailing bytes", attest.ErrMalformed, name)
	}
	return v, nil
}
