package client_test

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// A TPM that was reset under a connection shows the registers of what was measured
// since, by whoever measured it: what is at the other end did not boot with it.
func TestResetVoidsTheSession(t *testing.T) {
	m, key := verifiertest.Boot(t), logtest.NewReleaseKey(t)
	shows(t, m, key)
	ek, err := keyOf(m)
	if err != nil {
		t.Fatal(err)
	}
	pin := client.Pin{AK: m.TPM.AKName(), EK: ek}
	machine := listen(t, m, func() {})
	s, err := trusting(m, key).Connect(t.Context(), machine, &pin)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Verify(t.Context()); err != nil {
		t.Fatalf("once more, without a reset: %v", err)
	}
	m.Reboot(t)
	if err := s.Verify(t.Context()); !errors.Is(err, attest.ErrStale) {
		t.Errorf("after a reset with the same registers: %v", err)
	}
	// A machine that rebooted has connections of its own.
	again, err := trusting(m, key).Connect(t.Context(), machine, &pin)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
