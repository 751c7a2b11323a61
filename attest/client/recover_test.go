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
	for name, err := range map[string]error{"known": state.KnowsVolume(&onDisk), "remembered": state.RememberVolume(&onDisk)} {
		if !errors.Is(err, client.ErrUnknownVolume) {
			t.Errorf("what only stands on a disk is %s: %v", name, err)
		}
	}
	if err := state.KnowsVolume(mine); err != nil {
		t.Errorf("what its machine vouches for: %v", err)
	}
	if err := state.RememberVolume(mine); err != nil {
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
