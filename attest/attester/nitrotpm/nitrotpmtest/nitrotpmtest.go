// Package nitrotpmtest stands in for AWS's TPM: it answers the vendor command
// itself, with documents of a drawn root over the registers of a real software
// TPM, and passes everything else on to that.
//
// Invariant: nothing that ships imports it; the command is answered only where
// its authorization is right, as a TPM would.
package nitrotpmtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm"
	"github.com/toolshed-cloud/shed/attest/nitro"
	"github.com/toolshed-cloud/shed/attest/nitro/nitrotest"
)

// BufferBytes is the largest index that the software TPM has; a document with
// few registers fits.
const BufferBytes = 2048

// TPM is a software TPM with the vendor command before it.
type TPM struct {
	transport.TPM
	// Machine signs the documents.
	Machine *nitrotest.Machine
	// Registers are those that a document has, so that it fits.
	Registers []uint8
	// Refuse has every request refused by that name.
	Refuse string

	tb testing.TB
	// auth is the authorization of the last index defined, nonce the TPM's of
	// the last session.
	auth, nonce []byte
}

// Wrap puts the vendor command before a software TPM. Documents have registers
// 4, 7 and 11.
func Wrap(tb testing.TB, device transport.TPM) *TPM {
	tb.Helper()
	return &TPM{TPM: device, Machine: nitrotest.Draw(tb, nil), Registers: []uint8{4, 7, 11}, tb: tb}
}

// Send answers a command.
func (t *TPM) Send(input []byte) ([]byte, error) {
	switch tpm2.TPMCC(binary.BigEndian.Uint32(input[6:])) {
	case nitrotpm.CommandNSM:
		return t.nsm(input)
	case tpm2.TPMCCNVDefineSpace:
		// Behind header and handle: the authorization area, then TPM2B_AUTH.
		rest := input[18+binary.BigEndian.Uint32(input[14:]):]
		t.auth = append([]byte(nil), rest[2:2+binary.BigEndian.Uint16(rest)]...)
	case tpm2.TPMCCStartAuthSession:
		out, err := t.TPM.Send(input)
		if err == nil && len(out) > 16 {
			t.nonce = append([]byte(nil), out[16:16+binary.BigEndian.Uint16(out[14:])]...)
		}
		return out, err
	}
	return t.TPM.Send(input)
}

func failed(code tpm2.TPMRC) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	out = binary.BigEndian.AppendUint32(out, 10)
	return binary.BigEndian.AppendUint32(out, uint32(code))
}

// nsm checks the authorization, signs a document and leaves it in the index.
func (t *TPM) nsm(input []byte) ([]byte, error) {
	t.tb.Helper()
	index, size, code := t.admit(input)
	if code != tpm2.TPMRCSuccess {
		return failed(code), nil
	}
	if err := t.answer(index, size); err != nil {
		return nil, err
	}
	// The answer to a session's HMAC, which the caller does not look at.
	out := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	out = binary.BigEndian.AppendUint32(out, 10+4+5)
	return append(binary.BigEndian.AppendUint32(out, 0), make([]byte, 9)...), nil
}

// admit is the index of a command that is authorized for it, and its size.
func (t *TPM) admit(input []byte) (tpm2.NamedHandle, uint16, tpm2.TPMRC) {
	index := tpm2.NamedHandle{Handle: tpm2.TPMHandle(binary.BigEndian.Uint32(input[10:]))}
	if index.Handle != tpm2.TPMHandle(binary.BigEndian.Uint32(input[14:])) {
		return index, 0, tpm2.TPMRCHandle
	}
	if binary.BigEndian.Uint16(input) != uint16(tpm2.TPMSTSessions) {
		return index, 0, tpm2.TPMRCAuthMissing
	}
	authorization, err := tpm2.Unmarshal[tpm2.TPMSAuthCommand](input[22:])
	if err != nil {
		return index, 0, tpm2.TPMRCAuthMissing
	}
	public, err := tpm2.NVReadPublic{NVIndex: index.Handle}.Execute(t.TPM)
	if err != nil {
		return index, 0, tpm2.TPMRCHandle
	}
	index.Name = public.NVName
	if !t.authorized(authorization, index.Name) {
		return index, 0, tpm2.TPMRCAuthFail
	}
	contents, err := public.NVPublic.Contents()
	if err != nil {
		return index, 0, tpm2.TPMRCHandle
	}
	return index, contents.DataSize, tpm2.TPMRCSuccess
}

// authorized checks the HMAC (TPM 2.0 Part 1, section 19.6) of a session that
// is neither bound nor salted.
func (t *TPM) authorized(a *tpm2.TPMSAuthCommand, name tpm2.TPM2BName) bool {
	parameters := sha256.New()
	parameters.Write(binary.BigEndian.AppendUint32(nil, uint32(nitrotpm.CommandNSM)))
	parameters.Write(name.Buffer)
	parameters.Write(name.Buffer)
	mac := hmac.New(sha256.New, t.auth)
	mac.Write(parameters.Sum(nil))
	mac.Write(a.Nonce.Buffer)
	mac.Write(t.nonce)
	const continueSession = 1
	mac.Write([]byte{continueSession})
	return hmac.Equal(mac.Sum(nil), a.Authorization.Buffer)
}

func (t *TPM) answer(index tpm2.NamedHandle, size uint16) error {
	auth := tpm2.AuthHandle{Handle: index.Handle, Name: index.Name, Auth: tpm2.PasswordAuth(t.auth)}
	var request struct {
		Attestation struct {
			UserData  []byte `cbor:"user_data"`
			Nonce     []byte `cbor:"nonce"`
			PublicKey []byte `cbor:"public_key"`
		}
	}
	held, err := tpm2.NVRead{AuthHandle: auth, NVIndex: index, Size: min(size, 1024)}.Execute(t.TPM)
	if err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if _, err := cbor.UnmarshalFirst(held.Data.Buffer, &request); err != nil {
		return fmt.Errorf("reading the request: %w", err)
	}
	if err := t.readRegisters(); err != nil {
		return err
	}
	answer := any(map[string]any{"Error": t.Refuse})
	if t.Refuse == "" {
		document := t.Machine.Document(request.Attestation.Nonce, request.Attestation.UserData, request.Attestation.PublicKey, nil)
		answer = map[string]any{"Attestation": map[string]any{"document": document}}
	}
	encoded, err := cbor.Marshal(answer)
	if err != nil {
		return err
	}
	for offset := 0; offset < len(encoded); offset += 512 {
		_, err := tpm2.NVWrite{
			AuthHandle: auth, NVIndex: index, Offset: uint16(offset),
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: encoded[offset:min(offset+512, len(encoded))]},
		}.Execute(t.TPM)
		if err != nil {
			return fmt.Errorf("writing an answer of %d bytes: %w", len(encoded), err)
		}
	}
	return nil
}

// readRegisters has the machine's documents show the TPM's own registers.
func (t *TPM) readRegisters() error {
	bitmap := make([]byte, 3)
	for _, r := range t.Registers {
		bitmap[r/8] |= 1 << (r % 8)
	}
	rsp, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{
		PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA384, PCRSelect: bitmap}},
	}}.Execute(t.TPM)
	if err != nil {
		return fmt.Errorf("reading registers: %w", err)
	}
	clear(t.Machine.Registers)
	for i, r := range t.Registers {
		t.Machine.Registers[r] = nitro.Register(rsp.PCRValues.Digests[i].Buffer)
	}
	return nil
}
