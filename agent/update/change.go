package update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/agent/signaturelist"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// change has the firmware change one of the lists by which it tells what it starts.
// The data opens with the list as it is and as it is to be from before the write until
// the machine has started anew, whichever of the two it then shows: what the firmware
// says of the write decides nothing. Once it shows the change there is no way back.
func (u *Updater) change(ctx context.Context, offer api.Offer, c *candidate, owner *ownership.Claim, approval *ownership.Approval) error {
	u.step(offer, api.UpdateFetching, "")
	write, err := u.fetchChange(ctx, c)
	if errors.Is(err, errOther) {
		u.step(offer, api.UpdateRefused, api.ReasonUnreadable)
	}
	if err != nil {
		return err
	}
	if !u.begin(offer) {
		return errAnother
	}
	// What a boot says that finds the list as it was.
	u.note(api.UpdateInstalling, api.ReasonListUnchanged)
	if err := u.handOverToItself(c, owner, approval); err != nil {
		u.end(api.UpdateFellBack, api.ReasonInstallFailed)
		return err
	}
	if err := u.Lists.Write(c.change.Variable, write); err != nil {
		u.Log.Error("the firmware does not take the change", zap.String("variable", c.change.Variable), zap.Error(err))
	}
	return ErrRestart
}

func (u *Updater) handOverToItself(c *candidate, owner *ownership.Claim, approval *ownership.Approval) error {
	if err := u.Slots.leave(c.of); err != nil {
		return err
	}
	if approval == nil {
		if err := u.takesItself(c, owner); err != nil {
			return err
		}
	}
	return u.Volume.HandOver(seal.Successor{Registers: c.registers, Epoch: c.manifest.Epoch, Approval: approval, Tried: true})
}

// takesItself says whether this release, as it will be, takes the key from what is left
// of it under the owner's standing policy: there is no other way into the data then.
func (u *Updater) takesItself(c *candidate, owner *ownership.Claim) error {
	after := c.here
	after.Registers = c.registers
	from, _, err := u.Slots.Predecessor(owner, after, u.Now())
	if err == nil && !slices.Contains(from, c.here.Registers.SealDigest(c.here.Firmware)) {
		err = fmt.Errorf("%w: it would take it from %s", attest.ErrRelease, from)
	}
	if err != nil {
		return fmt.Errorf("trying what is left for this release after the change: %w", err)
	}
	return nil
}

// fetchChange is the write that the release names, where it makes register 7 what the
// release says: one that made it another would close the data for good. Errors are
// errOther and the source's.
func (u *Updater) fetchChange(ctx context.Context, c *candidate) ([]byte, error) {
	from := newDownload(ctx, u.Source, c.digest, *c.change.Write)
	defer from.stop()
	write, err := io.ReadAll(io.LimitReader(from, c.change.Write.Bytes))
	if err != nil {
		return nil, fmt.Errorf("fetching the change of %s: %w", c.change.Variable, err)
	}
	contents, err := signaturelist.Contents(write)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errOther, err)
	}
	want, err := c.change.Event(*c.manifest.AfterChange())
	if err != nil {
		return nil, err
	}
	if signaturelist.Event(c.change.Variable, contents) != want {
		return nil, fmt.Errorf("%w: it makes %s another than the release says", errOther, c.change.Variable)
	}
	return write, nil
}
