package nitrotpm_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm/nitrotpmtest"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
)

// watched keeps the commands of some codes, and answers one code by itself.
type watched struct {
	transport.TPM
	commands map[tpm2.TPMCC][][]byte
	// attributes are the index's when the vendor command came.
	attributes tpm2.TPMANV
	answer     func(tpm2.TPMCC) ([]byte, error)
}

func (w *watched) Send(command []byte) ([]byte, error) {
	code := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
	if w.commands == nil {
		w.commands = map[tpm2.TPMCC][][]byte{}
	}
	w.commands[code] = append(w.commands[code], bytes.Clone(command))
	if code == nitrotpm.CommandNSM {
		if public, err := (tpm2.NVReadPublic{NVIndex: nitrotpm.Index}).Execute(w.TPM); err == nil {
			contents, err := public.NVPublic.Contents()
			if err != nil {
				return nil, err
			}
			w.attributes = contents.Attributes
		}
	}
	if w.answer != nil {
		if answer, err := w.answer(code); answer != nil || err != nil {
			return answer, err
		}
	}
	return w.TPM.Send(command)
}

// authorization is what follows an authorization area with one password.
func authorization(t *testing.T, command []byte) []byte {
	t.Helper()
	const header, handle, size = 10, 4, 4
	rest := command[header+handle+size+binary.BigEndian.Uint32(command[header+handle:]):]
	return rest[2 : 2+binary.BigEndian.Uint16(rest)]
}

// The index opens to nobody but whoever knows an authorization that is drawn
// for one document, and no guess locks the TPM.
func TestIndexOpensToItsMakerAlone(t *testing.T) {
	device := &watched{TPM: nitrotpmtest.Wrap(t, swtpmtest.Start(t))}
	for range 2 {
		if _, err := nitrotpm.Document(device, rand.Reader, request); err != nil {
			t.Fatal(err)
		}
		want := tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true, Written: true}
		if device.attributes != want {
			t.Errorf("attributes %+v, want %+v", device.attributes, want)
		}
	}
	made := device.commands[tpm2.TPMCCNVDefineSpace]
	if len(made) != 2 {
		t.Fatalf("%d indices, want 2", len(made))
	}
	first, second := authorization(t, made[0]), authorization(t, made[1])
	if len(first) != 32 || len(second) != 32 || bytes.Equal(first, second) {
		t.Errorf("authorizations of %d and %d bytes, the same: %t", len(first), len(second), bytes.Equal(first, second))
	}
}

// The caller's nonce of the vendor command is none that the session began with.
func TestCallersNonceIsFresh(t *testing.T) {
	device := &watched{TPM: nitrotpmtest.Wrap(t, swtpmtest.Start(t))}
	if _, err := nitrotpm.Document(device, rand.Reader, request); err != nil {
		t.Fatal(err)
	}
	// Behind header and two handles stands the nonce; the vendor command has an
	// authorization area, whose size and session handle stand before it.
	begun := device.commands[tpm2.TPMCCStartAuthSession][0][18:]
	used := device.commands[nitrotpm.CommandNSM][0][26:]
	const length = 2 + 32
	if bytes.Equal(begun[:length], used[:length]) || !bytes.Equal(begun[:2], used[:2]) {
		t.Errorf("nonce %x, after %x", used[:length], begun[:length])
	}
}

// What is too long is said before anything is defined or written.
func TestTooMuchOfItsOwn(t *testing.T) {
	device := &watched{TPM: nitrotpmtest.Wrap(t, swtpmtest.Start(t))}
	long := make([]byte, nitrotpm.MaxOwn+1)
	for name, r := range map[string]nitrotpm.Request{
		"nonce": {Nonce: long}, "user data": {UserData: long}, "public key": {PublicKey: long},
	} {
		r.BufferBytes = nitrotpmtest.BufferBytes
		if _, err := nitrotpm.Document(device, rand.Reader, r); err == nil || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if len(device.commands) != 0 {
		t.Errorf("commands of %d codes were sent", len(device.commands))
	}
	whole := nitrotpm.Request{Nonce: long[1:], UserData: long[1:], PublicKey: long[1:], BufferBytes: nitrotpmtest.BufferBytes}
	if _, err := nitrotpm.Document(device, rand.Reader, whole); err == nil {
		t.Error("a request that is longer than its index")
	}
	if n := len(device.commands[tpm2.TPMCCNVWrite]); n != 0 {
		t.Errorf("%d parts of it were written", n)
	}
	if left(device) {
		t.Error("the index is still there")
	}
}

// A request that takes several writes is written whole.
func TestLongRequest(t *testing.T) {
	device := &watched{TPM: swtpmtest.Start(t)}
	long := request
	long.UserData = bytes.Repeat([]byte("data"), 150)
	if _, err := nitrotpm.Document(device, rand.Reader, long); !errors.Is(err, nitrotpm.ErrAbsent) {
		t.Errorf("error %v, want %v", err, nitrotpm.ErrAbsent)
	}
	var whole []byte
	for _, command := range device.commands[tpm2.TPMCCNVWrite] {
		// Header, two handles, the authorization area, then data and offset.
		rest := command[22+binary.BigEndian.Uint32(command[18:]):]
		size := binary.BigEndian.Uint16(rest)
		if offset := binary.BigEndian.Uint16(rest[2+size:]); int(offset) != len(whole) {
			t.Errorf("offset %d after %d bytes", offset, len(whole))
		}
		whole = append(whole, rest[2:2+size]...)
	}
	if !bytes.Contains(whole, long.UserData) || cbor.Wellformed(whole) != nil {
		t.Errorf("%d bytes were written", len(whole))
	}
}

// An index that stays is said: the next process finds another's.
func TestIndexThatStays(t *testing.T) {
	broken := errors.New("the tpm does not answer")
	device := &watched{TPM: nitrotpmtest.Wrap(t, swtpmtest.Start(t)), answer: func(code tpm2.TPMCC) ([]byte, error) {
		if code == tpm2.TPMCCNVUndefineSpace {
			return nil, broken
		}
		return nil, nil
	}}
	if _, err := nitrotpm.Document(device, rand.Reader, request); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}

// An answer that is cut off is an error.
func TestShortAnswer(t *testing.T) {
	n := 0
	device := &watched{TPM: swtpmtest.Start(t), answer: func(code tpm2.TPMCC) ([]byte, error) {
		if code == nitrotpm.CommandNSM {
			return make([]byte, n), nil
		}
		return nil, nil
	}}
	for n = range 10 {
		if _, err := nitrotpm.Document(device, rand.Reader, request); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := nitrotpm.Present(device); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of an answer whether it is there: %v", n, err)
		}
	}
}
