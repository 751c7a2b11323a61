package main

import (
	"net/url"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/release/logtest"
	"github.com/toolshed-cloud/shed/attest/verifier"
)

// What was accepted of a key's successor holds once a policy names that
// successor alone: the operator of an older release gains nothing by the
// rotation.
func TestEpochFloorFollowsRotation(t *testing.T) {
	old, rotated := logtest.NewReleaseKey(t), logtest.NewReleaseKey(t)
	c := &relyingParty{
		trust: client.Trust{ReleaseKey: old.Public()}, state: client.ClientState{Dir: t.TempDir()}, machine: &url.URL{Host: "machine:443"},
	}
	s := &client.Session{Evidence: new(verifier.Verified), Release: &release.Manifest{Epoch: 7}, Logged: release.Logged{Key: rotated.Public()}}
	if err := c.remember(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if floor, err := c.state.EpochFloor(rotated.Public()); err != nil || floor != 7 {
		t.Errorf("floor of the key that signed is %d, want 7, error %v", floor, err)
	}
}

// On a live connection too nobody has activated what shows no endorsement key.
func TestNobodyActivatedWithoutEndorsementKey(t *testing.T) {
	for want, ek := range map[string]attest.Digest{"nobody": {}, "this client": {1}} {
		v := &verifier.Verified{EK: ek, Registers: new(attest.Registers)}
		if got := claimsOf("https://machine", attest.AttestationResult{}, v, time.Now()).Activation; got != want {
			t.Errorf("activation by %s, want %s", got, want)
		}
	}
}
