package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Mapper puts authenticated encryption over the payload of a disk.
type Mapper interface {
	// Make makes an empty volume, whatever was there, and answers the path of
	// the plain block device.
	Make(disk string, key []byte) (string, error)
	// Map answers that of a volume that was made; ErrForeign where there is
	// none.
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

	// Predecessor is attest.Registers.SealDigest, of one or more, and the epoch of the
	// release that this one may take the volume over from under the owner's standing
	// policy; nil for none.
	Predecessor func(*ownership.Claim) (from []attest.Digest, epoch uint64, err error)

	// mu guards the fields below, which are there once the volume is open.
	mu sync.Mutex
	// auths are the TPM's authorizations.
	auths authorizations
	// opened is the header that the volume was opened by, key the volume's, and
	// took says that it was opened as the next release's.
	opened header
	key    []byte
	took   bool
	// vouched is what the header said when the volume was opened.
	vouched *Left
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

// Fits reports whether a disk can be a machine's data disk: it is blank, or it
// has a header of ours. It reads alone. Errors are the disk's.
func Fits(path string) (bool, error) {
	disk, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("opening disk: %w", err)
	}
	defer disk.Close() //nolint:errcheck // it was only read
	if begun, err := begins(disk); err != nil || begun {
		return begun, err
	}
	return blank(disk)
}

// Begins reports whether a disk has a header of ours, which may be anybody's. It
// reads alone. Errors are the disk's.
func Begins(path string) (bool, error) {
	disk, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("opening disk: %w", err)
	}
	defer disk.Close() //nolint:errcheck // it was only read
	return begins(disk)
}

func begins(disk io.ReaderAt) (bool, error) {
	start := make([]byte, len(headerMagic))
	if _, err := disk.ReadAt(start, 0); err != nil {
		return false, fmt.Errorf("reading disk: %w", err)
	}
	return bytes.Equal(start, headerMagic[:]), nil
}

// Open maps the owner's volume and answers the path of its plain device. Once,
// after the claim, it makes the volume and closes the TPM to other images; a
// crash in the midst of that is made good by the next call. Afterwards it never
// formats: another disk, also a blank one, is ErrForeign. A TPM that cannot be
// closed, because somebody else did it first, is ErrOwned.
func (v *DataVolume) Open(ctx context.Context, s State) (string, error) {
	if s.Claim == nil {
		return "", errors.New("opening data disk: machine is unclaimed")
	}
	disk, err := os.OpenFile(v.Disk, os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("opening data disk: %w", err)
	}
	defer disk.Close()
	if err := ensureKeys(v.Device); err != nil {
		return "", err
	}
	h, err := readHeader(disk)
	if s.Volume != (VolumeID{}) {
		return v.reopen(s, h, err)
	}
	if kept := unwritten(err); kept >= 0 {
		if empty, err := blankFrom(disk, kept); err != nil || !empty {
			return "", errors.Join(err, ErrNotBlank)
		}
	} else if err != nil || h.Claim != s.Claim.Digest() {
		return "", errors.Join(ErrForeign, err)
	}
	return v.create(ctx, s, disk)
}

// unwritten is how much at the start of the disk may be something although no
// header was ever there whole; negative where one was.
func unwritten(err error) int64 {
	switch {
	case errors.Is(err, errNoHeader):
		return 0
	case errors.Is(err, errTorn):
		return headerBytes
	}
	return -1
}

func (v *DataVolume) reopen(s State, h header, err error) (string, error) {
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrForeign, err)
	case h.Claim != s.Claim.Digest():
		return "", fmt.Errorf("%w: its header names claim %s, the machine's is %s", ErrForeign, h.Claim, s.Claim.Digest())
	case h.Volume != s.Volume:
		return "", fmt.Errorf("%w: it holds volume %s, this claim's is %s", ErrForeign, h.Volume, s.Volume)
	}
	key, took, err := v.unseal(s.Claim, h)
	if err != nil {
		return "", err
	}
	auths, err := decryptAuthorizations(key, h)
	if err != nil {
		return "", err
	}
	if err := v.own(s.Claim, h, auths); err != nil {
		return "", err
	}
	v.hold(h, key, took)
	path, err := v.Mapper.Map(v.Disk, key)
	if err != nil {
		return "", fmt.Errorf("mapping data disk: %w", err)
	}
	return path, nil
}

// own closes the TPM to other images. Whatever they may have put in the place
// of what the claim wrote, as long as they could, is put right first.
func (v *DataVolume) own(c *ownership.Claim, h header, auths authorizations) error {
	err := v.Device.Do(func(device transport.TPM) error {
		return takeOwnership(device, auths, func(device transport.TPM) error {
			return errors.Join(
				ensureNV(device, indexDocument, rewritable, c.Encode()),
				ensureNV(device, indexEpoch, rewritable, floor{epoch: v.Epoch}.encode()),
				ensureLockedNV(device, indexVolume, h.Volume[:]),
			)
		})
	})
	if err != nil {
		return fmt.Errorf("closing the tpm to others: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.auths, v.vouched = auths, h.left()
	v.vouched.Vouched = true
	return nil
}

// OwnerAuth is the TPM's owner authorization; empty for as long as no volume
// was opened. It is a secret of the machine's.
func (v *DataVolume) OwnerAuth() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.auths.Owner
}

// create makes the volume. The header, with all that the TPM will be closed
// with, goes before the file system, the TPM's record after it, and the TPM is
// closed last: whatever a crash leaves is either not yet a volume of this
// claim's, and made again, or whole.
func (v *DataVolume) create(ctx context.Context, s State, disk *os.File) (string, error) {
	key, err := drawKey(v.Rand)
	if err != nil {
		return "", err
	}
	auths, err := drawAuthorizations(v.Rand)
	if err != nil {
		return "", err
	}
	var id VolumeID
	if _, err := io.ReadFull(v.Rand, id[:]); err != nil {
		return "", fmt.Errorf("drawing volume id: %w", err)
	}
	h, err := v.newHeader(s.Claim, id, key, auths)
	if err != nil {
		return "", err
	}
	if err := writeHeader(disk, h); err != nil {
		return "", err
	}
	path, err := v.Mapper.Make(v.Disk, key)
	if err != nil {
		return "", fmt.Errorf("making the volume: %w", err)
	}
	if err := v.Format(ctx, path); err != nil {
		return "", errors.Join(fmt.Errorf("formatting data disk: %w", err), v.Mapper.Unmap())
	}
	if err := v.record(h.Volume); err != nil {
		return "", errors.Join(err, v.Mapper.Unmap())
	}
	if err := v.own(s.Claim, h, auths); err != nil {
		return "", errors.Join(err, v.Mapper.Unmap())
	}
	v.hold(h, key, false)
	return path, nil
}

// hold keeps what an update needs of an open volume. The kernel has the key for as
// long, and nothing of the payload's runs with the agent's rights.
func (v *DataVolume) hold(h header, key []byte, took bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.opened, v.key, v.took = h, key, took
}

// newHeader seals the key of a volume last, since what the TPM says of that
// key's making names all of the header.
func (v *DataVolume) newHeader(c *ownership.Claim, id VolumeID, key []byte, auths authorizations) (header, error) {
	h := header{Version: headerVersion, Volume: id, Claim: c.Digest()}
	// What another image has planted, as long as it could, counts nothing.
	err := v.Device.Do(func(device transport.TPM) error { return ensureFloor(device, v.Epoch) })
	if err != nil {
		return h, err
	}
	before, err := readFloor(v.Device)
	if err != nil {
		return h, err
	}
	h.Updates = before.updates
	if h.Authorizations, err = auths.encrypt(key, h); err != nil {
		return h, err
	}
	h.Recovery, err = c.WrapRecovery(ownership.Recovery{OwnerAuth: auths.Owner, LockoutAuth: auths.Lockout, VolumeKey: key}, h.context())
	if err != nil {
		return h, err
	}
	terms, err := v.terms(h)
	if err != nil {
		return h, err
	}
	h.Sealed, err = newSealed(v.Device, key, terms)
	return h, err
}

// terms are what the key of the volume with this header is sealed under.
func (v *DataVolume) terms(h header) (terms, error) {
	digest, err := h.digest()
	return terms{registers: attest.SealedRegisters(v.Firmware), claim: h.Claim, epoch: v.Epoch, updates: h.Updates, header: digest}, err
}

func (v *DataVolume) record(id VolumeID) error {
	return v.Device.Do(func(device transport.TPM) error { return ensureLockedNV(device, indexVolume, id[:]) })
}

// ensureLockedNV makes an index hold data and locks it.
func ensureLockedNV(device transport.TPM, index tpm2.TPMHandle, data []byte) error {
	if err := ensureNV(device, index, writeOnce, data); err != nil {
		return err
	}
	public, err := publicNV(device, index)
	if err != nil || public.Attributes.WriteLocked {
		return err
	}
	return lockNV(device, index)
}
