package attester_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/swtpmtest"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/tpm"
)

// A TPM without a certificate has the endorsement key that its seed makes, the
// same at each boot, whatever lies where its maker would have left one; and it
// opens credentials for it.
func TestTPMWithoutCertificate(t *testing.T) {
	device := swtpmtest.StartUncertified(t)
	m, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	if m.EKCertificate() != nil {
		t.Error("it shows a certificate")
	}
	key, err := x509.ParsePKIXPublicKey(m.EKPublic())
	if public, ok := key.(*ecdsa.PublicKey); err != nil || !ok || public.Curve != elliptic.P384() {
		t.Fatalf("its key is a %T: %v", key, err)
	}
	opens(t, m)
	roomFor(t, device, 2)
	plant(t, device)
	device.PowerOff()
	device.PowerOn()
	again, err := attester.Open(device)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.EKPublic(), again.EKPublic()) {
		t.Error("after a reset it has another key")
	}
	opens(t, again)
}

// opens has the TPM answer a challenge for its two keys, and show evidence.
func opens(t *testing.T, m *attester.TPM) {
	t.Helper()
	ek, err := tpm.ParseEKPublic(m.EKPublic())
	if err != nil {
		t.Fatal(err)
	}
	ak, err := tpm.ParseAK(m.AKPublic())
	if err != nil {
		t.Fatal(err)
	}
	challenge, err := tpm.NewChallenge(rand.Reader, ek, ak)
	if err != nil {
		t.Fatal(err)
	}
	channel := attest.Channel{Role: attest.RoleEnrol, SPKI: []byte("key"), Exporter: [32]byte{1}}
	answer, err := m.Activate(channel, challenge.CredentialBlob, challenge.EncryptedSecret)
	if err != nil {
		t.Fatal(err)
	}
	if err := challenge.Answered(answer[:], channel); err != nil {
		t.Error(err)
	}
	b, err := m.Evidence(attester.Subject{Channel: channel})
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := evidence.DecodeEndorsements(e.Endorsements); err != nil || got.EKCertificate != nil {
		t.Errorf("endorsements %+v, %v", got, err)
	}
}

// roomFor holds that so many keys can be loaded beside those that stay: opening
// the data key takes two.
func roomFor(t *testing.T, device *swtpmtest.TPM, keys int) {
	t.Helper()
	for range keys {
		key, err := attester.DeriveKey(device, tpm.AKTemplate())
		if err != nil {
			t.Fatal(err)
		}
		defer tpm2.FlushContext{FlushHandle: key.Handle}.Execute(device) //nolint:errcheck // the next step tells
	}
}

// plant leaves another key at the endorsement key's handle, as an earlier boot
// could with the platform's or the owner's authorization.
func plant(t *testing.T, device *swtpmtest.TPM) {
	t.Helper()
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm.UncertifiedEK().Public)}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{
		Auth:         tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: tpm.UncertifiedEK().Handle,
	}.Execute(device)
	if err != nil {
		t.Fatal(err)
	}
}
