package nitrotpm_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm/nitrotpmtest"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/nitro"
)

var request = nitrotpm.Request{Nonce: []byte("nonce"), UserData: []byte("user data"), BufferBytes: nitrotpmtest.BufferBytes}

// left reports whether the index is still there.
func left(device transport.TPM) bool {
	_, err := tpm2.NVReadPublic{NVIndex: nitrotpm.Index}.Execute(device)
	return err == nil
}

// From the stand-in's document over a real TPM's registers to the verifier.
func TestDocument(t *testing.T) {
	device := nitrotpmtest.Wrap(t, swtpmtest.Start(t))
	machine, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.Extend(11, attest.Sum([]byte("measured"))); err != nil {
		t.Fatal(err)
	}
	// A TPM holds three sessions at once: each ends, and what was defined is gone.
	for range 4 {
		raw, err := nitrotpm.Document(device, rand.Reader, request)
		if err != nil {
			t.Fatal(err)
		}
		d, err := nitro.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		e, err := nitro.VerifyEndorsement(d.Certificate, d.Bundle, device.Machine.Terms())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Check(d); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(d.Nonce, request.Nonce) || !bytes.Equal(d.UserData, request.UserData) || d.PublicKey != nil {
			t.Errorf("nonce %q, user data %q, key %q", d.Nonce, d.UserData, d.PublicKey)
		}
		if len(d.Registers) != 3 || d.Registers[11] == (nitro.Register{}) || d.Registers[4] != (nitro.Register{}) {
			t.Errorf("registers %v", d.Registers)
		}
		if left(device) {
			t.Error("the index is still there")
		}
	}
}

func TestNoDocument(t *testing.T) {
	software := swtpmtest.Start(t)
	device := nitrotpmtest.Wrap(t, software)
	if _, err := nitrotpm.Document(software, rand.Reader, request); !errors.Is(err, nitrotpm.ErrAbsent) {
		t.Errorf("a tpm without the command: %v", err)
	}
	device.Refuse = "InvalidOperation"
	if _, err := nitrotpm.Document(device, rand.Reader, request); !errors.Is(err, nitrotpm.ErrRefused) {
		t.Errorf("a request that is refused: %v", err)
	}
	long := request
	long.Nonce = make([]byte, nitrotpm.MaxOwn+1)
	if _, err := nitrotpm.Document(device, rand.Reader, long); err == nil {
		t.Error("a nonce that is too long")
	}
	owned := request
	owned.OwnerAuth = []byte("wrong")
	if _, err := nitrotpm.Document(device, rand.Reader, owned); !errors.Is(err, tpm2.TPMRCBadAuth) && !errors.Is(err, tpm2.TPMRCAuthFail) {
		t.Errorf("another owner authorization: %v", err)
	}
	if _, err := nitrotpm.Document(device, bytes.NewReader(nil), request); err == nil {
		t.Error("an authorization without randomness")
	}
	if left(device) {
		t.Error("the index is still there")
	}
}

// Zeros that are drawn are no part of an authorization, and a source of nothing
// else is no source.
func TestZerosDrawn(t *testing.T) {
	device := nitrotpmtest.Wrap(t, swtpmtest.Start(t))
	some := bytes.Repeat([]byte{1, 0, 3, 4}, 16)
	if _, err := nitrotpm.Document(device, bytes.NewReader(some), request); err != nil {
		t.Errorf("a zero in four: %v", err)
	}
	if _, err := nitrotpm.Document(device, bytes.NewReader(make([]byte, 64)), request); err == nil {
		t.Error("zeros alone")
	}
}

// What a process that was killed left behind is in nobody's way.
func TestLeftover(t *testing.T) {
	device := nitrotpmtest.Wrap(t, swtpmtest.Start(t))
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: nitrotpm.Index, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8,
			Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NoDA: true},
		}),
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nitrotpm.Document(device, rand.Reader, request); err != nil {
		t.Error(err)
	}
}

// A command whose authorization is for another index's name is refused by the
// stand-in, so that the tests above show that it was right.
func TestStandInChecks(t *testing.T) {
	device := nitrotpmtest.Wrap(t, swtpmtest.Start(t))
	spoiled := &spoiler{TPM: device}
	if _, err := nitrotpm.Document(spoiled, rand.Reader, request); !errors.Is(err, tpm2.TPMRCAuthFail) {
		t.Errorf("%v", err)
	}
}

// spoiler changes the last byte of the vendor command, which is of its HMAC.
type spoiler struct{ transport.TPM }

func (s *spoiler) Send(input []byte) ([]byte, error) {
	if bytes.Equal(input[6:10], []byte{0x20, 0, 0, 1}) {
		input[len(input)-1]++
	}
	return s.TPM.Send(input)
}
