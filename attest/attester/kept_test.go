package attester_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// own sets the owner's authorization and powers the TPM off and on.
func own(t *testing.T, device *swtpmtest.TPM) {
	t.Helper()
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: []byte("the owner's")},
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	device.PowerOff()
	device.PowerOn()
}

// The attestation key is the same before and after the TPM has an owner.
func TestOpenOwnedTPM(t *testing.T) {
	device := swtpmtest.Start(t)
	before, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	// Twice: what stands there is replaced.
	for range 2 {
		if err := attester.KeepKey(device, attester.AKHandle, tpm.AKTemplate()); err != nil {
			t.Fatal(err)
		}
	}
	own(t, device)
	after, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before.AKPublic(), after.AKPublic()) || !bytes.Equal(before.AKName(), after.AKName()) {
		t.Error("the machine has another attestation key")
	}
	if _, err := after.Evidence(attester.Subject{}); err != nil {
		t.Errorf("the kept key does not quote: %v", err)
	}
}

// A TPM that somebody else has made theirs has no attestation key for us.
func TestOpenTPMOfAnother(t *testing.T) {
	otherTemplate := tpm.AKTemplate()
	otherTemplate.ObjectAttributes.Restricted = false
	for name, c := range map[string]struct {
		template tpm2.TPMTPublic
		want     error
	}{
		"no key":                  {want: attester.ErrNoKey},
		"an unrestricted key":     {otherTemplate, attester.ErrForeignKey},
		"a storage key":           {tpm2.ECCSRKTemplate, attester.ErrForeignKey},
		"a key of our template":   {tpm.AKTemplate(), nil},
		"a key with other policy": {withPolicy(tpm.AKTemplate()), attester.ErrForeignKey},
	} {
		t.Run(name, func(t *testing.T) {
			device := swtpmtest.Start(t)
			if c.template.Type != 0 {
				if err := attester.KeepKey(device, attester.AKHandle, c.template); err != nil {
					t.Fatal(err)
				}
			}
			own(t, device)
			if _, err := attester.Open(device); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func withPolicy(template tpm2.TPMTPublic) tpm2.TPMTPublic {
	template.AuthPolicy = tpm2.TPM2BDigest{Buffer: make([]byte, 32)}
	return template
}

// An authorization holds no zeros, and there is none where too many are drawn.
func TestDrawAuthorization(t *testing.T) {
	auth, err := attester.DrawAuthorization(strings.NewReader(strings.Repeat("\x00a", 32)))
	if err != nil || !bytes.Equal(auth, bytes.Repeat([]byte("a"), 32)) {
		t.Errorf("%q, %v", auth, err)
	}
	for _, drawn := range []string{"", strings.Repeat("\x00", 33) + strings.Repeat("a", 31)} {
		if _, err := attester.DrawAuthorization(strings.NewReader(drawn)); err == nil {
			t.Errorf("%q was enough", drawn)
		}
	}
}
