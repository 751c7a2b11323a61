package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// ErrNoHandover says that the volume is not open, or nothing was handed over.
var ErrNoHandover = errors.New("the data disk is not being handed over")

// unseal is the volume's key, and whether it was sealed for this image by the one
// that it takes over from. Errors are openKey's, and attest.ErrRefused where the
// owner has not let anybody hand over.
func (v *DataVolume) unseal(c *ownership.Claim, h header) (key []byte, took bool, err error) {
	own, err := v.terms(h)
	if err != nil {
		return nil, false, err
	}
	key, err = openKey(v.Device, h.Sealed, own)
	if h.Handover == nil || !errors.Is(err, ErrSealed) {
		return key, false, err
	}
	// A policy that does not open says nothing more of itself than that: this is
	// the next release, or neither of the two.
	makers, unknown := v.predecessor(c, *h.Handover)
	if unknown != nil {
		return nil, false, errors.Join(err, fmt.Errorf("%w: %w", ErrMaker, unknown))
	}
	next := own
	for _, next.maker = range makers {
		key, notTaken := openKey(v.Device, h.Handover.Next, next)
		if notTaken == nil {
			return key, true, nil
		}
		err = errors.Join(err, notTaken)
	}
	return nil, false, err
}

// predecessor is what may have sealed the key for this release: the one before, which
// may have had one state of several. An approval is for one update: afterwards the
// release that it names makes no key that is taken. Under a standing policy one below
// the floor of the epoch makes none.
func (v *DataVolume) predecessor(c *ownership.Claim, h handover) ([]attest.Digest, error) {
	there, err := readFloor(v.Device)
	if err != nil {
		return nil, err
	}
	if len(h.Approval) == 0 {
		return v.standing(c, there)
	}
	approval, err := ownership.ParseApproval(h.Approval, c)
	if err != nil {
		return nil, err
	}
	if number := there.updates + 1; approval.Body.Number != number {
		return nil, fmt.Errorf("%w: the approval is for update %d, this would be %d", attest.ErrClaim, approval.Body.Number, number)
	}
	return []attest.Digest{approval.Body.From}, nil
}

func (v *DataVolume) standing(c *ownership.Claim, there floor) ([]attest.Digest, error) {
	if c.Body.Update.Consent != ownership.UpdateStanding || v.Predecessor == nil {
		return nil, fmt.Errorf("%w: the owner has approved no update", attest.ErrClaim)
	}
	from, epoch, err := v.Predecessor(c)
	if err == nil && epoch < there.epoch {
		err = fmt.Errorf("%w: the release before has epoch %d, below the floor of %d", attest.ErrRelease, epoch, there.epoch)
	}
	return from, err
}

// NextUpdate is the number that an approval of the machine's next update has.
// Errors are the TPM's.
func (v *DataVolume) NextUpdate() (uint64, error) {
	f, err := readFloor(v.Device)
	return f.updates + 1, err
}

// Successor is what the volume is handed over to.
type Successor struct {
	// Registers are those that the next release will have on this machine, of the
	// sealed ones.
	Registers attest.Registers
	Epoch     uint64
	// Approval is the owner's; nil where their standing policy is enough.
	Approval *ownership.Approval
	// Tried says that the next release need not be on trial: it is this one, which
	// is healthy, and what differs is not its own.
	Tried bool
}

// HandOver lets the next release open the volume beside this one, from the moment at
// which the header is written. Errors are ErrNoHandover where no volume is open, or
// this release is the one that was let, ErrSealed where the floor of the epoch is above
// the next release's, or the TPM's and the disk's.
func (v *DataVolume) HandOver(s Successor) error {
	h, key, took, err := v.held()
	if err != nil {
		return err
	}
	if took {
		return fmt.Errorf("%w: this release is on trial", ErrNoHandover)
	}
	// What the count of updates says is known to the TPM before the next begins.
	if err := v.raise(floor{epoch: v.Epoch, updates: h.Updates}); err != nil {
		return err
	}
	h.Handover = new(handover)
	if s.Approval != nil {
		h.Handover.Approval = s.Approval.Encode()
	}
	own, err := v.terms(h)
	if err != nil {
		return err
	}
	next := own
	next.epoch = s.Epoch
	for _, n := range own.registers {
		next.values = append(next.values, s.Registers[n][:]...)
	}
	if h.Handover.Next, err = newSealed(v.Device, key, next); err != nil {
		return err
	}
	if s.Tried {
		if h.Handover.Passed, err = passedCode(key, h); err != nil {
			return err
		}
	}
	return v.reseal(h, key, own)
}

// HandingOver says that the volume is open to a second release: to this one, where
// taking is true, or to the one that this one has let.
func (v *DataVolume) HandingOver() (handing, taking bool) {
	h, _, took, err := v.held()
	return err == nil && h.Handover != nil, took
}

// Pass has the header say that this release, which has taken the volume over, was
// healthy: from then on whoever starts it need not try it. Errors are ErrNoHandover,
// or the disk's.
func (v *DataVolume) Pass() error {
	h, key, took, err := v.held()
	if err != nil {
		return err
	}
	if h.Handover == nil || !took {
		return ErrNoHandover
	}
	passed := *h.Handover
	if passed.Passed, err = passedCode(key, h); err != nil {
		return err
	}
	h.Handover = &passed
	if err := v.replaceHeader(h); err != nil {
		return err
	}
	v.hold(h, key, true)
	return nil
}

// Passed says that Pass was called for the handover under way, in this boot or one
// before.
func (v *DataVolume) Passed() bool {
	h, key, took, err := v.held()
	if err != nil || h.Handover == nil || !took {
		return false
	}
	want, err := passedCode(key, h)
	return err == nil && hmac.Equal(h.Handover.Passed, want)
}

const passedInfo = "shed/trial/1"

// passedCode is for one handover: its key was wrapped for it alone.
func passedCode(key []byte, h header) ([]byte, error) {
	digest, err := h.digest()
	if err != nil {
		return nil, err
	}
	derived, err := hkdf.Key(sha256.New, key, nil, passedInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving a trial's key: %w", err)
	}
	code := hmac.New(sha256.New, derived)
	next := attest.Sum(h.Handover.Next.Private)
	code.Write(append(digest[:], next[:]...)) //nolint:errcheck // it never fails
	return code.Sum(nil), nil
}

// Keep makes this image the only one that opens the volume: the next release where
// it has taken it over, and otherwise the one before. In the first case the floor of
// the epoch rises, and the machine has been through one more update. Errors are the
// TPM's and the disk's; whatever a crash leaves, Keep or Settle makes good.
func (v *DataVolume) Keep() error {
	h, key, took, err := v.held()
	if err != nil {
		return err
	}
	if h.Handover == nil {
		return ErrNoHandover
	}
	h.Handover = nil
	if took {
		if h.Updates, err = v.NextUpdate(); err != nil {
			return err
		}
	}
	own, err := v.terms(h)
	if err != nil {
		return err
	}
	if err := v.reseal(h, key, own); err != nil {
		return err
	}
	if took {
		return v.Settle()
	}
	return nil
}

// Settle has the TPM remember what the open volume's header says of this image, once
// that is healthy and alone: its epoch is the floor, and as many updates have been.
// Errors are the TPM's, and ErrNoHandover where no volume is open.
func (v *DataVolume) Settle() error {
	h, _, _, err := v.held()
	if err != nil || h.Handover != nil {
		return err
	}
	return v.raise(floor{epoch: v.Epoch, updates: h.Updates})
}

func (v *DataVolume) reseal(h header, key []byte, own terms) (err error) {
	if h.Sealed, err = newSealed(v.Device, key, own); err != nil {
		return err
	}
	if err := v.replaceHeader(h); err != nil {
		return err
	}
	v.hold(h, key, false)
	return nil
}

// held is what hold has kept.
func (v *DataVolume) held() (header, []byte, bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key == nil {
		return header{}, nil, false, ErrNoHandover
	}
	return v.opened, v.key, v.took, nil
}
