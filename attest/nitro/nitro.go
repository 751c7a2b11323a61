// Package nitro parses and verifies the attestation documents of AWS's
// NitroTPM. It decides whether a document is genuine and never whether what it
// shows is good: that is package verifier.
//
// Invariants: bytes are capped before they are parsed; around what AWS signed
// there is one spelling, and within it no field is there twice or unknown; a
// document of a Nitro enclave, which chains to the same root, is none of a
// NitroTPM. No function here asks a clock, the network or a disk.
package nitro

import (
	"bytes"
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// The caps, in bytes and in entries. A document has about 5 KiB, and each of
// what the machine adds at most 1 KiB (aws/NitroTPM-Tools, nitro-tpm-attest).
const (
	MaxDocument = 16 << 10
	maxOwn      = 1 << 10
	maxModuleID = 256
	maxBundle   = 8
)

// Registers is how many registers a NitroTPM has.
const Registers = 24

// Register is a register's value in the SHA-384 bank.
type Register [48]byte

// Document is a NitroTPM's attestation document (Amazon EC2 User Guide,
// "Validate a NitroTPM Attestation Document"). Nothing in it is verified until
// Endorsement.Check says so.
type Document struct {
	// ModuleID names the instance and its TPM.
	ModuleID string
	// Timestamp is AWS's time at which it was signed, to the millisecond.
	Timestamp time.Time
	// Registers are those of the SHA-384 bank, by number, below Registers.
	// Which of them there are is AWS's choice.
	Registers map[uint8]Register
	// Certificate is the signer's, DER, and Bundle its issuers, the root first.
	Certificate []byte
	Bundle      [][]byte
	// PublicKey, UserData and Nonce are the machine's own choice; nil where
	// it made none.
	PublicKey, UserData, Nonce []byte

	signed    []byte
	signature [96]byte
}

// envelope is COSE_Sign1 (RFC 9052, section 4.2), untagged as AWS writes it.
type envelope struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

// sigStructure is what is signed (RFC 9052, section 4.4).
type sigStructure struct {
	_         struct{} `cbor:",toarray"`
	Context   string
	Protected []byte
	External  []byte
	Payload   []byte
}

// es384 is the protected header {1: -35}: ECDSA with SHA-384 and no other.
var es384 = []byte{0xa1, 0x01, 0x38, 0x22}

// payload is the document's fields; an enclave's has its registers as pcrs.
type payload struct {
	ModuleID    string           `cbor:"module_id"`
	Timestamp   uint64           `cbor:"timestamp"`
	Digest      string           `cbor:"digest"`
	TPM         map[uint8][]byte `cbor:"nitrotpm_pcrs"`
	Enclave     map[uint8][]byte `cbor:"pcrs"`
	Certificate []byte           `cbor:"certificate"`
	Bundle      [][]byte         `cbor:"cabundle"`
	PublicKey   []byte           `cbor:"public_key"`
	UserData    []byte           `cbor:"user_data"`
	Nonce       []byte           `cbor:"nonce"`
}

// lax reads what AWS encoded, which is not deterministic: maps of indefinite
// length, keys in an order of its own. The bytes are signed as they are, so
// that nobody else can choose another spelling.
var lax = must(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	IndefLength:       cbor.IndefLengthAllowed,
	TagsMd:            cbor.TagsForbidden,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	MaxArrayElements:  16,
	MaxMapPairs:       32,
	MaxNestedLevels:   4,
}.DecMode())

// must is for a mode built from constants: an error there is a bug in this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Parse reads a NitroTPM's document of at most MaxDocument bytes. Errors are
// attest.ErrMalformed, with the field, and attest.ErrIdentity for a document of
// an enclave.
func Parse(raw []byte) (*Document, error) {
	d, p, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if p.Enclave != nil {
		return nil, fmt.Errorf("%w: document is an enclave's, not a nitrotpm's", attest.ErrIdentity)
	}
	d.Registers, err = registers(p.TPM)
	return d, err
}

// parse reads all but the registers.
func parse(raw []byte) (*Document, *payload, error) {
	var e envelope
	if err := canon.Unmarshal("nitrotpm document", raw, MaxDocument, &e); err != nil {
		return nil, nil, err
	}
	d := new(Document)
	if !bytes.Equal(e.Protected, es384) {
		return nil, nil, fmt.Errorf("%w: nitrotpm document: protected header is not that of es384", attest.ErrMalformed)
	}
	if len(e.Signature) != len(d.signature) {
		return nil, nil, fmt.Errorf("%w: nitrotpm document: signature has %d bytes, want %d", attest.ErrMalformed, len(e.Signature), len(d.signature))
	}
	copy(d.signature[:], e.Signature)
	p := new(payload)
	if err := lax.Unmarshal(e.Payload, p); err != nil {
		return nil, nil, fmt.Errorf("%w: nitrotpm document: %w", attest.ErrMalformed, err)
	}
	if err := p.check(); err != nil {
		return nil, nil, fmt.Errorf("%w: nitrotpm document: %w", attest.ErrMalformed, err)
	}
	var err error
	d.signed, err = canon.Marshal(sigStructure{Context: "Signature1", Protected: e.Protected, External: []byte{}, Payload: e.Payload})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: nitrotpm document: %w", attest.ErrMalformed, err)
	}
	d.ModuleID, d.Timestamp = p.ModuleID, time.UnixMilli(int64(p.Timestamp)).UTC()
	d.Certificate, d.Bundle = p.Certificate, p.Bundle
	d.PublicKey, d.UserData, d.Nonce = p.PublicKey, p.UserData, p.Nonce
	return d, p, nil
}

func (p *payload) check() error {
	// The year 9999, beyond which a time has no text.
	const latest = 253402300799999
	switch {
	case p.ModuleID == "" || len(p.ModuleID) > maxModuleID:
		return fmt.Errorf("module_id has %d bytes, want 1 to %d", len(p.ModuleID), maxModuleID)
	case p.Timestamp == 0 || p.Timestamp > latest:
		return fmt.Errorf("timestamp %d is no time", p.Timestamp)
	case p.Digest != "SHA384":
		return fmt.Errorf("digest %.16q is unknown", p.Digest)
	case len(p.Certificate) == 0:
		return fmt.Errorf("no certificate")
	case len(p.Bundle) == 0 || len(p.Bundle) > maxBundle:
		return fmt.Errorf("cabundle has %d certificates, want 1 to %d", len(p.Bundle), maxBundle)
	}
	for name, own := range map[string][]byte{"public_key": p.PublicKey, "user_data": p.UserData, "nonce": p.Nonce} {
		if len(own) > maxOwn {
			return fmt.Errorf("%s has %d bytes, at most %d", name, len(own), maxOwn)
		}
	}
	return nil
}

func registers(wire map[uint8][]byte) (map[uint8]Register, error) {
	if len(wire) == 0 || len(wire) > Registers {
		return nil, fmt.Errorf("%w: nitrotpm document: %d registers, want 1 to %d", attest.ErrMalformed, len(wire), Registers)
	}
	all := make(map[uint8]Register, len(wire))
	for number, value := range wire {
		if number >= Registers || len(value) != len(Register{}) {
			return nil, fmt.Errorf("%w: nitrotpm document: register %d has %d bytes, want one below %d with %d",
				attest.ErrMalformed, number, len(value), Registers, len(Register{}))
		}
		all[number] = Register(value)
	}
	return all, nil
}
