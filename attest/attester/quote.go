package attester

import (
	"crypto/sha512"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// Extend folds a digest into a register, in the SHA-384 bank the SHA-384 of
// the digest, so that no bank that is quoted or sealed to stays at zero.
// Errors are the TPM's.
func (t *TPM) Extend(register uint8, digest attest.Digest) error {
	long := sha512.Sum384(digest[:])
	return t.Do(func(device transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)},
			Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
				{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]},
				{HashAlg: tpm2.TPMAlgSHA384, Digest: long[:]},
			}},
		}.Execute(device)
		if err != nil {
			return fmt.Errorf("extending register %d: %w", register, err)
		}
		return nil
	})
}

// Registers reads registers of the SHA-256 bank, in the order asked for.
// Errors are the TPM's.
func (t *TPM) Registers(registers ...uint8) ([]attest.Digest, error) {
	var values []attest.Digest
	err := t.Do(func(device transport.TPM) (err error) {
		values, err = readRegisters(device, registers)
		return err
	})
	return values, err
}

// Subject is what a piece of evidence speaks of besides the machine itself.
type Subject struct {
	Channel attest.Channel
	Nonce   attest.Nonce
	// Config is the digest of the measured configuration, Claim that of the
	// claim; zero on an unclaimed machine.
	Config          attest.Digest
	Claim           attest.Digest
	ReferenceValues evidence.ReferenceValues
	// Endorsements are encoded; where there are none the endorsement
	// certificate is all that vouches for the machine.
	Endorsements []byte
}

func (t *TPM) quote(device transport.TPM, extra attest.Digest) (quote, signature []byte, err error) {
	rsp, err := tpm2.Quote{
		SignHandle:     tpm2.AuthHandle{Handle: t.ak.Handle, Name: t.ak.Name, Auth: tpm2.PasswordAuth(nil)},
		QualifyingData: tpm2.TPM2BData{Buffer: extra[:]},
		InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect:      tpm.PCRSelection(),
	}.Execute(device)
	if err != nil {
		return nil, nil, fmt.Errorf("quoting: %w", err)
	}
	return rsp.Quoted.Bytes(), tpm2.Marshal(rsp.Signature), nil
}

// readRegisters reads until it has them all: a TPM answers at most eight at
// once (TPM 2.0 Part 3, section 22.4).
func readRegisters(device transport.TPM, registers []uint8) ([]attest.Digest, error) {
	values := make([]attest.Digest, 0, len(registers))
	for rest := registers; len(rest) > 0; {
		some := rest[:min(8, len(rest))]
		rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm.SelectSHA256(some...)}.Execute(device)
		if err != nil {
			return nil, fmt.Errorf("reading registers: %w", err)
		}
		if len(rsp.PCRValues.Digests) != len(some) {
			return nil, fmt.Errorf("reading registers: %d values for %d", len(rsp.PCRValues.Digests), len(some))
		}
		for i, r := range some {
			value := rsp.PCRValues.Digests[i].Buffer
			if len(value) != len(attest.Digest{}) {
				return nil, fmt.Errorf("reading register %d: %d bytes, want %d", r, len(value), len(attest.Digest{}))
			}
			values = append(values, attest.Digest(value))
		}
		rest = rest[len(some):]
	}
	return values, nil
}
