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

// Registers reads registers of the SHA-256 bank. Errors are the TPM's.
func (t *TPM) Registers(registers ...uint8) (map[uint8]attest.Digest, error) {
	var values map[uint8]attest.Digest
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
}

// Evidence quotes the registers for one nonce on one connection. Errors are
// the TPM's.
func (t *TPM) Evidence(s Subject) ([]byte, error) {
	leaf := s.Channel.Leaf(s.Nonce, s.Config, s.Claim)
	// A batch of one: its root is the leaf.
	extra := attest.QuoteData(1, leaf)
	e := &evidence.Evidence{
		Version: evidence.Version, Binding: evidence.BindingExporter, Role: s.Channel.Role,
		Nonce: s.Nonce, SPKI: s.Channel.SPKI, Config: s.Config, Claim: s.Claim,
		TPM:             evidence.TPM{EKCertificate: t.ekCertificate, AKPublic: t.akPublic},
		Batch:           evidence.Batch{Count: 1, Path: []attest.Digest{}},
		ReferenceValues: s.ReferenceValues,
	}
	err := t.Do(func(device transport.TPM) (err error) {
		if e.TPM.Registers, err = readRegisters(device, tpm.Selection[:]); err != nil {
			return err
		}
		e.TPM.Quote, e.TPM.Signature, err = t.quote(device, extra)
		return err
	})
	if err != nil {
		return nil, err
	}
	return e.Encode()
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
func readRegisters(device transport.TPM, registers []uint8) (map[uint8]attest.Digest, error) {
	values := make(map[uint8]attest.Digest, len(registers))
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
			values[r] = attest.Digest(value)
		}
		rest = rest[len(some):]
	}
	return values, nil
}
