package client_test

import (
	"errors"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/client"
)

// What a client remembers tells its own volume from one that somebody made.
func TestVolumeThatAClientKnows(t *testing.T) {
	state := client.ClientState{Dir: t.TempDir()}
	mine := &channel.Left{Claim: attest.Digest{1}, Volume: [16]byte{2}, Wrapped: []byte("wrapped"), Vouched: true}
	onDisk := *mine
	onDisk.Vouched = false
	for name, err := range map[string]error{"known": state.KnowsVolume(&onDisk), "remembered": state.RememberVolume(&onDisk, attest.Tiers{})} {
		if !errors.Is(err, client.ErrUnknownVolume) {
			t.Errorf("what only stands on a disk is %s: %v", name, err)
		}
	}
	if err := state.KnowsVolume(mine); err != nil {
		t.Errorf("what its machine vouches for: %v", err)
	}
	if err := state.RememberVolume(mine, attest.Tiers{}); err != nil {
		t.Fatal(err)
	}
	if err := state.KnowsVolume(&onDisk); err != nil {
		t.Error(err)
	}
	for name, other := range map[string]channel.Left{
		"another claim":  {Claim: attest.Digest{2}, Volume: mine.Volume, Wrapped: mine.Wrapped},
		"another volume": {Claim: mine.Claim, Volume: [16]byte{3}, Wrapped: mine.Wrapped},
		"another's key":  {Claim: mine.Claim, Volume: mine.Volume, Wrapped: []byte("another's")},
	} {
		if err := state.KnowsVolume(&other); !errors.Is(err, client.ErrUnknownVolume) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The key of data that a machine kept from whoever runs it is not for a machine
// that keeps it from nobody.
func TestVolumeOfAMachineThatShowedMore(t *testing.T) {
	state := client.ClientState{Dir: t.TempDir()}
	left := &channel.Left{Claim: attest.Digest{1}, Volume: [16]byte{2}, Wrapped: []byte("wrapped"), Vouched: true}
	had := attest.Tiers{Memory: attest.TierHardware, Identity: attest.TierProviderRooted, Storage: attest.TierProviderRooted}
	if err := state.RememberVolume(left, had); err != nil {
		t.Fatal(err)
	}
	// A host that withholds proofs for a while makes nothing of it.
	if err := state.RememberVolume(left, attest.Tiers{Identity: attest.TierSoftware}); err != nil {
		t.Fatal(err)
	}
	left.Vouched = false
	for name, lower := range map[string]func(*attest.Tiers){
		"memory":   func(s *attest.Tiers) { s.Memory = attest.TierNone },
		"identity": func(s *attest.Tiers) { s.Identity = attest.TierSoftware },
	} {
		shown := had
		lower(&shown)
		if err := state.MayHaveVolume(left, shown); !errors.Is(err, client.ErrLowerTier) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rewritten := *left
	rewritten.Wrapped = []byte("an older header's")
	if err := state.MayHaveVolume(&rewritten, attest.Tiers{Memory: attest.TierHardware}); !errors.Is(err, client.ErrLowerTier) {
		t.Errorf("under another header: %v", err)
	}
	unclaimed := had
	unclaimed.Storage = attest.TierNone
	more := had
	more.Identity = attest.TierHardware
	for _, shown := range []attest.Tiers{had, unclaimed, more} {
		if err := state.MayHaveVolume(left, shown); err != nil {
			t.Error(err)
		}
	}
}
