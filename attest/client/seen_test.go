package client_test

import (
	"errors"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/bundle"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// A clock that was set back to before the machine was last seen makes no expired
// certificate valid, live or of what was saved; a time that is stated does.
func TestClockIsNotBeforeLastSeen(t *testing.T) {
	m, key := verifiertest.Boot(t), logtest.NewReleaseKey(t)
	shows(t, m, key)
	ek, err := keyOf(m)
	if err != nil {
		t.Fatal(err)
	}
	machine := listen(t, m, func() {})
	trust := trusting(m, key)
	var saved *bundle.Bundle
	trust.Captured = func(b *bundle.Bundle) error { saved = b; return nil }
	expired := trust.Policy.TrustAnchors[0].Certificate.NotAfter.Add(time.Hour)
	for seen, want := range map[time.Time]error{time.Now().Add(time.Hour): nil, expired: attest.ErrRefused} {
		pin := client.Pin{AK: m.TPM.AKName(), EK: ek, Seen: seen}
		s, err := trust.Connect(t.Context(), machine, &pin)
		if !errors.Is(err, want) {
			t.Fatalf("last seen at %s: %v", seen, err)
		}
		if err == nil {
			if got := s.Pin().Seen; !got.Equal(seen) {
				t.Errorf("last seen at %s, and at %s from then on", seen, got)
			}
			s.Close()
		}
		if _, err := trust.JudgeBundle(saved, &pin, time.Now()); !errors.Is(err, want) {
			t.Errorf("saved, last seen at %s: %v", seen, err)
		}
		now := time.Now()
		if _, err := trust.Assuming(now).JudgeBundle(saved, &pin, now); err != nil {
			t.Errorf("saved, at a time that is stated: %v", err)
		}
	}
}
