package seal

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/toolshed-cloud/shed/attest"
)

// Left is the volume on a disk, as its owner has to know it on the day when the
// machine is lost.
type Left struct {
	// Claim is the digest of the claim that the volume was made under.
	Claim  attest.Digest
	Volume VolumeID
	// Recovery is the key, encrypted to that claim's recovery recipient.
	Recovery []byte
	// Vouched says that this machine has made or opened the volume since it
	// booted. All else is the disk's word, which its host can write at any time.
	Vouched bool
}

func (h header) left() *Left { return &Left{Claim: h.Claim, Volume: h.Volume, Recovery: h.Recovery} }

// Left is what this machine has opened, whatever the disk says by now, and
// otherwise what is on the data disk; nil where no volume of ours is. Errors are
// the disk's, and attest.ErrMalformed.
func (v *DataVolume) Left() (*Left, error) {
	v.mu.Lock()
	vouched := v.vouched
	v.mu.Unlock()
	if vouched != nil {
		return vouched, nil
	}
	disk, err := os.Open(v.Disk)
	if err != nil {
		return nil, fmt.Errorf("opening data disk: %w", err)
	}
	defer disk.Close()
	h, err := readHeader(disk)
	if errors.Is(err, errNoHeader) || errors.Is(err, errTorn) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return h.left(), nil
}

// CheckKey returns ErrForeign where key is not that of the volume with this id
// on the disk. It changes nothing, so that a wrong key costs its bearer nothing.
func (v *DataVolume) CheckKey(id VolumeID, key []byte) error {
	_, _, err := v.header(id, key)
	return err
}

// header is that of the volume with this id and key.
func (v *DataVolume) header(id VolumeID, key []byte) (header, authorizations, error) {
	disk, err := os.Open(v.Disk)
	if err != nil {
		return header{}, authorizations{}, fmt.Errorf("opening data disk: %w", err)
	}
	defer disk.Close()
	h, err := readHeader(disk)
	if err != nil {
		return h, authorizations{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if h.Volume != id {
		return h, authorizations{}, fmt.Errorf("%w: it holds volume %s, the key is for %s", ErrForeign, h.Volume, id)
	}
	if len(key) != keyBytes {
		return h, authorizations{}, fmt.Errorf("%w: the key has %d bytes, want %d", ErrForeign, len(key), keyBytes)
	}
	auths, err := decryptAuthorizations(key, h)
	return h, auths, err
}

// Adopt makes the volume with this id and key, which another machine made or
// this one under other registers, that of this machine's claim: it seals the
// key here and answers the plain device's path. It never formats. Whatever a
// crash leaves is the volume as it was, to be adopted again, or this machine's.
// A machine that has another volume already is ErrForeign.
func (v *DataVolume) Adopt(s State, id VolumeID, key []byte) (string, error) {
	if s.Claim == nil {
		return "", errors.New("taking over the data disk: machine is unclaimed")
	}
	if s.Volume != (VolumeID{}) && s.Volume != id {
		return "", fmt.Errorf("%w: this claim's volume is %s", ErrForeign, s.Volume)
	}
	before, auths, err := v.header(id, key)
	if err != nil {
		return "", err
	}
	if err := ensureKeys(v.Device); err != nil {
		return "", err
	}
	// The authorizations of a lost machine's TPM are of no use here.
	if before.Claim != s.Claim.Digest() {
		if auths, err = drawAuthorizations(v.Rand); err != nil {
			return "", err
		}
	}
	h, err := v.newHeader(s.Claim, id, key, auths)
	if err != nil {
		return "", err
	}
	// On record before the header names this claim: a claim without a volume on
	// record may format.
	if err := v.record(id); err != nil {
		return "", err
	}
	if err := v.replaceHeader(h); err != nil {
		return "", err
	}
	if err := v.own(s.Claim, h, auths); err != nil {
		return "", err
	}
	v.hold(h, bytes.Clone(key), false)
	path, err := v.Mapper.Map(v.Disk, key)
	if err != nil {
		return "", fmt.Errorf("mapping data disk: %w", err)
	}
	return path, nil
}

func (v *DataVolume) replaceHeader(h header) error {
	disk, err := os.OpenFile(v.Disk, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening data disk: %w", err)
	}
	return errors.Join(writeHeader(disk, h), disk.Close())
}
