package nitrotpm_test

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm"
	"github.com/toolshed-cloud/shed/attest/attester/nitrotpm/nitrotpmtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// From the stand-in's document beside a real TPM's quote to the verdict: both
// are of the same registers, each in its own bank.
func TestDocumentBesideTheQuote(t *testing.T) {
	m := verifiertest.Boot(t)
	m.PinSecureBoot()
	device := nitrotpmtest.Wrap(t, m.Device)
	m.Reporters = []attester.Reporter{&nitrotpm.Reporter{
		Device: device, Rand: rand.Reader, OwnerAuth: func() []byte { return nil }, BufferBytes: nitrotpmtest.BufferBytes,
	}}
	image := attest.Sum([]byte("image"))
	long := sha512.Sum384(image[:])
	extended := sha512.Sum384(slices.Concat(make([]byte, len(long)), long[:]))
	m.Release.Boots[0].SHA384 = map[string]string{"4": hex.EncodeToString(extended[:]), "11": hex.EncodeToString(extended[:])}
	p := m.PolicyAt(attest.TierSoftware)
	p.Minimum.Identity = attest.TierProviderRooted
	p.Nitro = &verifier.NitroPolicy{Roots: device.Machine.Terms().Roots, MaxAge: time.Hour}
	r, err := m.Input(t).Appraise(p)
	if err != nil || !r.Accepted() || r.Tiers.Identity != attest.TierProviderRooted {
		t.Errorf("tiers %+v, error %v: %+v", r.Tiers, err, r.Findings)
	}
	m.Release.Boots[0].SHA384["11"] = hex.EncodeToString(long[:])
	r, err = m.Input(t).Appraise(p)
	if f := r.Finding(attest.Hardware); err != nil || r.Accepted() || !errors.Is(f.Cause, attest.ErrRegisters) {
		t.Errorf("another image by the document alone: accepted %t, %+v, %v", r.Accepted(), f, err)
	}
}
