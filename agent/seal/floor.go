package seal

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/attester"
)

// floor is what the TPM remembers of releases: the epoch under which none opens the
// volume, and how many times the volume was handed from one to the next. A policy
// compares both, an approval names the second.
type floor struct{ epoch, updates uint64 }

// placeUpdates is where the second stands in the index.
const (
	placeUpdates = 8
	floorBytes   = 16
)

// encodeEpoch is an epoch as a policy compares it with the index.
func encodeEpoch(epoch uint64) []byte { return binary.BigEndian.AppendUint64(nil, epoch) }

func (f floor) encode() []byte {
	return binary.BigEndian.AppendUint64(encodeEpoch(f.epoch), f.updates)
}

func parseFloor(b []byte) (floor, error) {
	if b == nil {
		return floor{}, nil
	}
	if len(b) != floorBytes {
		return floor{}, fmt.Errorf("%w: the floor of the epoch has %d bytes, want %d", attest.ErrMalformed, len(b), floorBytes)
	}
	return floor{epoch: binary.BigEndian.Uint64(b), updates: binary.BigEndian.Uint64(b[placeUpdates:])}, nil
}

// readFloor is the floor; zero where there is none yet.
func readFloor(d Device) (f floor, err error) {
	err = d.Do(func(device transport.TPM) error {
		b, err := readNV(device, indexEpoch)
		if err != nil {
			return err
		}
		f, err = parseFloor(b)
		return err
	})
	return f, err
}

// ensureFloor makes this image's epoch the floor for as long as the owner's
// authorization is not set; afterwards there is one, which stays.
func ensureFloor(device transport.TPM, epoch uint64) error {
	permanent, err := attester.ReadPermanent(device)
	if err != nil {
		return err
	}
	if !permanent.OwnerAuthSet() {
		return putNV(device, indexEpoch, rewritable, floor{epoch: epoch}.encode())
	}
	b, err := readNV(device, indexEpoch)
	if err != nil {
		return err
	}
	f, err := parseFloor(b)
	if err == nil && f.epoch > epoch {
		err = fmt.Errorf("%w: the floor of the epoch is %d, this image's epoch %d", ErrSealed, f.epoch, epoch)
	}
	return err
}

// raise has the TPM remember a later floor; one that is no later stays as it is.
func (v *DataVolume) raise(to floor) error {
	auth := v.OwnerAuth()
	if auth == nil {
		return fmt.Errorf("raising the epoch's floor: %w", ErrSealed)
	}
	return v.Device.Do(func(device transport.TPM) error {
		b, err := readNV(device, indexEpoch)
		if err != nil {
			return err
		}
		there, err := parseFloor(b)
		if err != nil {
			return err
		}
		to := floor{epoch: max(there.epoch, to.epoch), updates: max(there.updates, to.updates)}
		if to == there {
			return nil
		}
		return rewriteNV(device, indexEpoch, auth, to.encode())
	})
}
