package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm/tpm2/transport"
)

// Mapper puts dm-crypt over the payload of a disk.
type Mapper interface {
	// Map answers the path of the plain block device.
	Map(disk string, key []byte) (string, error)
	// Unmap undoes Map; without a mapping it does nothing.
	Unmap() error
}

// DataVolume is the data disk with what is needed to open it.
type DataVolume struct {
	Device Device
	Mapper Mapper
	// Format makes a file system on a block device.
	Format func(ctx context.Context, path string) error
	Rand   io.Reader
	// Disk is the data disk's path; Epoch is this image's.
	Disk  string
	Epoch uint64
	// Firmware says that the release fixes the firmware, so that the data key
	// is sealed to its registers too.
	Firmware bool
}

// CheckBlank returns ErrNotBlank where a claim would destroy something.
func (v *DataVolume) CheckBlank() error {
	disk, err := os.Open(v.Disk)
	if err != nil {
		return fmt.Errorf("opening data disk: %w", err)
	}
	defer disk.Close()
	switch empty, err := blank(disk); {
	case err != nil:
		return err
	case !empty:
		return ErrNotBlank
	default:
		return nil
	}
}

// Open maps the owner's volume and answers the path of its plain device. Once,
// after the claim, it makes the volume; a crash in the midst of that is made
// good by the next call. Afterwards it never formats: another disk, also a
// blank one, is ErrForeign.
func (v *DataVolume) Open(ctx context.Context, s State) (string, error) {
	if s.Claim == nil {
		return "", errors.New("opening data disk: machine is unclaimed")
	}
	disk, err := os.OpenFile(v.Disk, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("opening data disk: %w", err)
	}
	defer disk.Close()
	h, err := readHeader(disk)
	if s.Volume != (VolumeID{}) {
		return v.reopen(s, h, err)
	}
	if errors.Is(err, errNoHeader) {
		if empty, err := blank(disk); err != nil || !empty {
			return "", errors.Join(err, ErrNotBlank)
		}
	} else if err != nil || h.Claim != s.Claim.Digest() {
		return "", errors.Join(ErrForeign, err)
	}
	return v.create(ctx, s, disk)
}

func (v *DataVolume) reopen(s State, h header, err error) (string, error) {
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrForeign, err)
	case h.Volume != s.Volume || h.Claim != s.Claim.Digest():
		return "", fmt.Errorf("%w: it holds volume %s, this claim's is %s", ErrForeign, h.Volume, s.Volume)
	}
	terms, err := v.terms(h)
	if err != nil {
		return "", err
	}
	key, err := openKey(v.Device, h.Sealed, terms)
	if err != nil {
		return "", err
	}
	return v.mapKey(key)
}

// create makes the volume. The header goes before the file system and the
// TPM's record after it: whatever a crash leaves is either not yet a volume of
// this claim's, and made again, or whole.
func (v *DataVolume) create(ctx context.Context, s State, disk *os.File) (string, error) {
	h := header{Version: headerVersion, Claim: s.Claim.Digest()}
	if _, err := io.ReadFull(v.Rand, h.Volume[:]); err != nil {
		return "", fmt.Errorf("drawing volume id: %w", err)
	}
	terms, err := v.terms(h)
	if err != nil {
		return "", err
	}
	key, sealed, err := newKey(v.Device, v.Rand, terms)
	if err != nil {
		return "", err
	}
	h.Sealed = sealed
	if err := writeHeader(disk, h); err != nil {
		return "", err
	}
	path, err := v.mapKey(key)
	if err != nil {
		return "", err
	}
	if err := v.Format(ctx, path); err != nil {
		return "", errors.Join(fmt.Errorf("formatting data disk: %w", err), v.Mapper.Unmap())
	}
	if err := v.record(h.Volume); err != nil {
		return "", errors.Join(err, v.Mapper.Unmap())
	}
	return path, nil
}

// terms are what the key of the volume with this header is sealed under.
func (v *DataVolume) terms(h header) (terms, error) {
	digest, err := h.digest()
	return terms{registers: sealedRegisters(v.Firmware), claim: h.Claim, epoch: v.Epoch, header: digest}, err
}

func writeHeader(disk *os.File, h header) error {
	b, err := h.encode()
	if err != nil {
		return err
	}
	if _, err := disk.WriteAt(b, 0); err != nil {
		return fmt.Errorf("writing data disk header: %w", err)
	}
	if err := disk.Sync(); err != nil {
		return fmt.Errorf("writing data disk header: %w", err)
	}
	return nil
}

func (v *DataVolume) record(id VolumeID) error {
	return v.Device.Do(func(device transport.TPM) error {
		return putNV(device, indexVolume, rewritable, id[:])
	})
}

func (v *DataVolume) mapKey(key []byte) (string, error) {
	defer clear(key)
	path, err := v.Mapper.Map(v.Disk, key)
	if err != nil {
		return "", fmt.Errorf("mapping data disk: %w", err)
	}
	return path, nil
}
