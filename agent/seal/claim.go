package seal

import (
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest/ownership"
)

// State is what the TPM remembers of the machine's owner.
type State struct {
	// Claim is nil on an unclaimed machine.
	Claim *ownership.Claim
	// Volume is the id of the claim's formatted volume; zero before.
	Volume VolumeID
}

// Load reads the state. A claim whose document does not match the locked
// digest is an error: the machine then serves nobody. What a crash between the
// digest and its lock left open is locked here, before a key is sealed to it.
func Load(d Device) (State, error) {
	var s State
	err := d.Do(func(device transport.TPM) error {
		digest, err := readNV(device, indexClaim)
		if err != nil || digest == nil {
			return err
		}
		document, err := readNV(device, indexDocument)
		if err != nil {
			return err
		}
		if s.Claim, err = ownership.Parse(document); err != nil {
			return fmt.Errorf("reading claim: %w", err)
		}
		if got := s.Claim.Digest(); string(got[:]) != string(digest) {
			return fmt.Errorf("reading claim: document does not match the locked digest")
		}
		volume, err := readNV(device, indexVolume)
		copy(s.Volume[:], volume)
		if err != nil || s.Volume != (VolumeID{}) {
			return err
		}
		return lockNV(device, indexClaim)
	})
	return s, err
}

// Commit makes c the machine's claim for good. The document goes first: until
// the digest is written there is no claim, and a crash leaves none behind.
// The error is ErrClaimed where there is one already.
func Commit(d Device, c *ownership.Claim) error {
	return d.Do(func(device transport.TPM) error {
		switch digest, err := readNV(device, indexClaim); {
		case err != nil:
			return err
		case digest != nil:
			return ErrClaimed
		}
		if err := putNV(device, indexDocument, rewritable, c.Encode()); err != nil {
			return err
		}
		digest := c.Digest()
		if err := putNV(device, indexClaim, writeOnce, digest[:]); err != nil {
			return err
		}
		return lockNV(device, indexClaim)
	})
}
