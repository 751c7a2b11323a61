package seal

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
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
// digest is an error, and so is one in an index of another kind than Commit
// makes, which its maker could write again: the machine then serves nobody.
// What was left unlocked is locked here, before a key is sealed to it. Errors
// are ErrForeignIndex, ownership.Parse's and the TPM's.
func Load(d Device) (State, error) {
	var s State
	err := d.Do(func(device transport.TPM) error {
		digest, err := readNV(device, indexClaim)
		if err != nil || digest == nil {
			return err
		}
		if err := ensureLocked(device); err != nil {
			return err
		}
		document, err := readNV(device, indexDocument)
		if err != nil {
			return err
		}
		if s.Claim, err = ownership.Parse(document); err != nil {
			return fmt.Errorf("reading claim: %w", err)
		}
		if got := s.Claim.Digest(); !bytes.Equal(got[:], digest) {
			return fmt.Errorf("reading claim: document does not match the locked digest")
		}
		volume, err := readNV(device, indexVolume)
		copy(s.Volume[:], volume)
		return err
	})
	if err != nil {
		return State{}, err
	}
	return s, nil
}

// ensureLocked locks the claim's index where it is not locked yet.
func ensureLocked(device transport.TPM) error {
	public, err := publicNV(device, indexClaim)
	switch {
	case err != nil:
		return err
	case !isAs(public, writeOnce):
		return fmt.Errorf("reading claim: %w", ErrForeignIndex)
	case public.Attributes.WriteLocked:
		return nil
	}
	return lockNV(device, indexClaim)
}

// Commit makes c the machine's claim for good, in a TPM that Prepare has
// readied. The document goes first: until
// the digest is written there is no claim, and a crash leaves none behind.
// Where the digest cannot be locked it is taken back: a claim that could be
// written over is none. The error is ErrClaimed where there is one already.
func Commit(d Device, c *ownership.Claim) error {
	return d.Do(func(device transport.TPM) error {
		switch digest, err := readNV(device, indexClaim); {
		case err != nil:
			return err
		case digest != nil:
			return ErrClaimed
		}
		// What another image wrote here before there was a claim says nothing.
		for _, index := range []tpm2.TPMHandle{indexVolume, indexEpoch} {
			if err := undefineNV(device, index); err != nil {
				return err
			}
		}
		if err := putNV(device, indexDocument, rewritable, c.Encode()); err != nil {
			return err
		}
		digest := c.Digest()
		if err := putNV(device, indexClaim, writeOnce, digest[:]); err != nil {
			return errors.Join(err, undefineNV(device, indexClaim))
		}
		if err := lockNV(device, indexClaim); err != nil {
			return errors.Join(err, undefineNV(device, indexClaim))
		}
		return nil
	})
}
