package update

import (
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// Trying says that the release that runs is on trial.
func (u *Updater) Trying() { u.note(api.UpdateTrying, "") }

// Failing says what the trial fails for; the release before tells it.
func (u *Updater) Failing(reason api.UpdateReason) { u.note(api.UpdateTrying, reason) }

// Done says that the release that was tried is the machine's.
func (u *Updater) Done() { u.note(api.UpdateDone, "") }

// FellBack says that a trial is over and the release before it runs. A release that
// left no reason did not come so far, or was cut off.
func (u *Updater) FellBack() {
	u.mu.Lock()
	reason := api.UpdateReason(u.record.Reason)
	u.mu.Unlock()
	if reason == "" {
		reason = api.ReasonNotStarted
	}
	u.note(api.UpdateFellBack, reason)
}

// note moves the record on; without an offer on record there is nothing to say.
func (u *Updater) note(step api.UpdateStep, reason api.UpdateReason) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.record.Release.IsZero() {
		return
	}
	r := u.record
	r.Step, r.Reason = string(step), string(reason)
	u.set(r)
}

// Predecessor is attest.Registers.SealDigest and the epoch of the release that the
// other slot says it was, where the owner's policy vouches for that. Errors are
// esp's and attest.ErrRefused.
func (s Slots) Predecessor(c *ownership.Claim, here Here, now time.Time) (attest.Digest, uint64, error) {
	before, err := s.found()
	if err != nil {
		return attest.Digest{}, 0, err
	}
	logged, err := vouched(before, c.Body.Update, now)
	if err != nil {
		return attest.Digest{}, 0, err
	}
	registers, err := registersOf(logged.Manifest, here)
	if err != nil {
		return attest.Digest{}, 0, fmt.Errorf("%w: the release before: %w", attest.ErrRelease, err)
	}
	return registers.SealDigest(here.Firmware), logged.Manifest.Epoch, nil
}
