// Package nitrotpm has an AWS NitroTPM sign an attestation document, by its
// vendor command as aws/NitroTPM-Tools uses it. Not tried on hardware: tests
// stand in for the command, which no software TPM has, before a real one.
//
// Invariants: the index that carries request and answer is made for one
// document and removed after it, also when it fails; its authorization is drawn
// for that document; what the TPM answers is capped, and what it signed is not
// judged here.
package nitrotpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/canon"
)

// CommandNSM is TPM2_VENDOR_AWS_NSM_REQUEST: it takes an NV index twice, as its
// own authorization and as what it works on, reads a request from it and writes
// the answer there.
const CommandNSM tpm2.TPMCC = 0x20000001

// Index is the NV index that carries request and answer, in the range that the
// owner of a TPM may use (TPM 2.0 Handles and Localities registry, section
// 2.2.2).
const Index tpm2.TPMHandle = 0x01800110

// BufferBytes is the index's size: a document has about 5 KiB and up to 3 KiB of
// the machine's own.
const BufferBytes = 8 << 10

// MaxOwn caps each of the machine's own fields, in bytes.
const MaxOwn = 1 << 10

var (
	// ErrAbsent says that this TPM is no NitroTPM: it has no such command.
	ErrAbsent = errors.New("tpm has no nitro attestation")
	// ErrRefused says that AWS's side refused the request, and how it calls
	// that.
	ErrRefused = errors.New("nitro attestation refused")
)

// Request is what the document is to carry of the machine's own.
type Request struct {
	// Nonce, UserData and PublicKey are at most MaxOwn bytes each; nil leaves
	// one out.
	Nonce, UserData, PublicKey []byte
	// OwnerAuth is the TPM's owner authorization, which defining an index
	// takes; empty where there is none.
	OwnerAuth []byte
	// BufferBytes is the index's size; zero is BufferBytes. Some TPMs have none
	// as large.
	BufferBytes uint16
}

// wireRequest and wireResponse are the Nitro Secure Module's
// (aws/aws-nitro-enclaves-nsm-api, api module), of which this is one kind.
type wireRequest struct {
	Attestation struct {
		UserData  []byte `cbor:"user_data"`
		Nonce     []byte `cbor:"nonce"`
		PublicKey []byte `cbor:"public_key"`
	} `cbor:"Attestation"`
}

type wireResponse struct {
	Attestation *struct {
		Document []byte `cbor:"document"`
	} `cbor:"Attestation"`
	Error string `cbor:"Error"`
}

// Document has a document signed over the request's fields. The TPM must be
// the caller's alone meanwhile, and not behind the kernel's resource manager,
// which passes no vendor command on. Errors are ErrAbsent, ErrRefused, those of
// random, and the TPM's.
func Document(device transport.TPM, random io.Reader, r Request) (document []byte, err error) {
	var request wireRequest
	request.Attestation.UserData, request.Attestation.Nonce, request.Attestation.PublicKey = r.UserData, r.Nonce, r.PublicKey
	for name, own := range map[string][]byte{"nonce": r.Nonce, "user data": r.UserData, "public key": r.PublicKey} {
		if len(own) > MaxOwn {
			return nil, fmt.Errorf("asking for a nitro document: %s has %d bytes, at most %d", name, len(own), MaxOwn)
		}
	}
	encoded, err := canon.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("asking for a nitro document: %w", err)
	}
	b, err := define(device, random, r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.undefine()) }()
	if err := b.write(encoded); err != nil {
		return nil, err
	}
	if err := b.nsm(); err != nil {
		return nil, err
	}
	answer, err := b.read()
	if err != nil {
		return nil, err
	}
	return decode(answer)
}

// lax reads what Rust's encoder writes, which need not be deterministic.
var lax = must(cbor.DecOptions{
	DupMapKey:         cbor.DupMapKeyEnforcedAPF,
	TagsMd:            cbor.TagsForbidden,
	FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	MaxMapPairs:       16,
	MaxNestedLevels:   4,
}.DecMode())

// must is for a mode built from constants: an error there is a bug in this file.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// decode reads the answer; what follows it in the index is what was there.
func decode(b []byte) ([]byte, error) {
	var answer wireResponse
	if _, err := lax.UnmarshalFirst(b, &answer); err != nil {
		return nil, fmt.Errorf("answer of nitro attestation: %w", err)
	}
	switch {
	case answer.Error != "":
		return nil, fmt.Errorf("%w: %.40q", ErrRefused, answer.Error)
	case answer.Attestation == nil || len(answer.Attestation.Document) == 0:
		return nil, fmt.Errorf("answer of nitro attestation: %w", io.ErrUnexpectedEOF)
	}
	return answer.Attestation.Document, nil
}

// nsm sends the vendor command. It is authorized by an HMAC session over the
// index's authorization and name, as AWS's own tool does; the answer's HMAC is
// not looked at, since the document is signed.
func (b *buffer) nsm() (err error) {
	named, err := b.named()
	if err != nil {
		return err
	}
	session, end, err := tpm2.HMACSession(b.device, tpm2.TPMAlgSHA256, 32, tpm2.Auth(b.auth))
	if err != nil {
		return fmt.Errorf("starting session: %w", err)
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := session.NewNonceCaller(); err != nil {
		return fmt.Errorf("authorizing nitro attestation: %w", err)
	}
	authorization, err := session.Authorize(CommandNSM, nil, nil, []tpm2.TPM2BName{named.Name, named.Name}, 0)
	if err != nil {
		return fmt.Errorf("authorizing nitro attestation: %w", err)
	}
	response, err := b.device.Send(command(tpm2.Marshal(*authorization)))
	if err != nil {
		return fmt.Errorf("sending nitro attestation: %w", err)
	}
	return responseCode(response)
}

// command is the vendor command: header, the index twice, the authorization
// (TPM 2.0 Part 1, section 18).
func command(authorization []byte) []byte {
	be := binary.BigEndian
	const header = 10
	size := header + 2*4 + 4 + len(authorization)
	c := be.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	c = be.AppendUint32(c, uint32(size))
	c = be.AppendUint32(c, uint32(CommandNSM))
	c = be.AppendUint32(c, uint32(Index))
	c = be.AppendUint32(c, uint32(Index))
	c = be.AppendUint32(c, uint32(len(authorization)))
	return append(c, authorization...)
}

func responseCode(response []byte) error {
	if len(response) < 10 {
		return fmt.Errorf("answer of nitro attestation: %w", io.ErrUnexpectedEOF)
	}
	switch code := tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])); code {
	case tpm2.TPMRCSuccess:
		return nil
	case tpm2.TPMRCCommandCode:
		return fmt.Errorf("%w: %w", ErrAbsent, code)
	default:
		return fmt.Errorf("nitro attestation: %w", code)
	}
}
