package update

import (
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
)

// begin says that the offer is being installed, unless another has come meanwhile.
func (u *Updater) begin(of api.Offer) bool {
	u.step(of, api.UpdateInstalling, "")
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy = u.record.offer() == of
	return u.busy
}

// end is note for what the offer comes to; others are heard of from then on.
func (u *Updater) end(step api.UpdateStep, reason api.UpdateReason) {
	u.note(step, reason)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy = false
}

// Trying says that the release that runs is on trial.
func (u *Updater) Trying() {
	u.note(api.UpdateTrying, "")
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy = true
}

// Failing says what the trial fails for; the release before tells it.
func (u *Updater) Failing(reason api.UpdateReason) { u.note(api.UpdateTrying, reason) }

// Done says that the release that was tried is the machine's.
func (u *Updater) Done() { u.end(api.UpdateDone, "") }

// Settled says that no release is on trial: of one that was, and of whose end nothing
// is on record, its owner has taken the data back.
func (u *Updater) Settled() {
	u.mu.Lock()
	trying := api.UpdateStep(u.record.Step) == api.UpdateTrying
	u.mu.Unlock()
	if trying {
		u.FellBack()
	}
}

// FellBack says that a trial is over and the release before it runs. A release that
// left no reason did not come so far, or was cut off; one that left another than this
// release knows has not left any.
func (u *Updater) FellBack() {
	u.mu.Lock()
	reason := api.UpdateReason(u.record.Reason)
	u.mu.Unlock()
	switch reason {
	case api.ReasonNotEnrolled, api.ReasonUnhealthy, api.ReasonInstallFailed, api.ReasonListUnchanged:
	default:
		reason = api.ReasonNotStarted
	}
	u.end(api.UpdateFellBack, reason)
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
	registers, err := registersBefore(logged.Manifest, here)
	if err != nil {
		return attest.Digest{}, 0, fmt.Errorf("%w: the release before: %w", attest.ErrRelease, err)
	}
	return registers.SealDigest(here.Firmware), logged.Manifest.Epoch, nil
}

// registersBefore are those of the boot before: of another release with the variables
// as they are, whichever certificate vouched for that, or of this one with them as they
// were.
func registersBefore(m *release.Manifest, here Here) (attest.Registers, error) {
	c := &candidate{manifest: m}
	boot, err := c.on(here)
	if err != nil {
		return registersAside(m, here, err)
	}
	if c.runs && boot == m.AfterChange() {
		c.registers[7], err = parseRegister(m.BeforeChange().SHA256["7"])
	}
	return c.registers, err
}

// registersAside are those of the first boot of a release that differs from this one's
// in register 7 alone, beside the image's; without one the error is why.
func registersAside(m *release.Manifest, here Here, why error) (attest.Registers, error) {
	for _, boot := range m.Boots {
		seven, err := parseRegister(boot.SHA256["7"])
		if err != nil {
			continue
		}
		beside := here
		beside.Registers[7] = seven
		if r, _, err := registersOf(m, beside); err == nil {
			return r, nil
		}
	}
	return here.Registers, why
}
