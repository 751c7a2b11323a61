package nitrotpm_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm/nitrotpmtest"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/nitro"
)

// Whether a TPM is a NitroTPM shows without a trace in it.
func TestPresent(t *testing.T) {
	device := swtpmtest.Start(t)
	if present, err := nitrotpm.Present(device); present || err != nil {
		t.Errorf("a software tpm: %t, %v", present, err)
	}
	if present, err := nitrotpm.Present(nitrotpmtest.Wrap(t, device)); !present || err != nil {
		t.Errorf("a nitro tpm: %t, %v", present, err)
	}
	if left(device) {
		t.Error("an index is left")
	}
}

// A claimed machine makes documents with the owner authorization alone.
func TestReporter(t *testing.T) {
	device := nitrotpmtest.Wrap(t, swtpmtest.Start(t))
	var auth []byte
	r := &nitrotpm.Reporter{
		Device: device, Rand: rand.Reader, OwnerAuth: func() []byte { return auth }, BufferBytes: nitrotpmtest.BufferBytes,
	}
	check := func() {
		t.Helper()
		report, err := r.Report([64]byte{7})
		if err != nil {
			t.Fatal(err)
		}
		d, err := nitro.Parse(report.Report)
		if err != nil {
			t.Fatal(err)
		}
		if report.Kind != evidence.KindNitroTPM || report.Certificates != nil || [64]byte(d.UserData) != [64]byte{7} {
			t.Errorf("kind %d, %d bytes of certificates, user data %x", report.Kind, len(report.Certificates), d.UserData)
		}
	}
	check()
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("the owner's")},
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Report([64]byte{7}); !errors.Is(err, tpm2.TPMRCBadAuth) {
		t.Errorf("without the authorization: %v", err)
	}
	auth = []byte("the owner's")
	check()
}
