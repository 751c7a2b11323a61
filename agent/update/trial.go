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

// Predecessor is the epoch of the release that the other slot says it was, where the
// owner's policy vouches for that, and attest.Registers.SealDigest of it: of several
// where it is not known which of the release's boots the machine had. Errors are esp's
// and attest.ErrRefused.
func (s Slots) Predecessor(c *ownership.Claim, here Here, now time.Time) (from []attest.Digest, epoch uint64, err error) {
	before, err := s.found()
	if err != nil {
		return nil, 0, err
	}
	if m, err := signedBy(before, c.Body.Update); err == nil {
		if registers, is := beforeOwnChange(m, here); is {
			return []attest.Digest{registers.SealDigest(here.Firmware)}, here.Epoch, nil
		}
	}
	logged, err := vouched(before, c.Body.Update, now)
	if err != nil {
		return nil, 0, err
	}
	all, err := registersBefore(logged.Manifest, here)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: the release before: %w", attest.ErrRelease, err)
	}
	for _, registers := range all {
		from = append(from, registers.SealDigest(here.Firmware))
	}
	return from, logged.Manifest.Epoch, nil
}

// registersBefore are those that the release before had on this machine. The error is
// registersOf's.
func registersBefore(m *release.Manifest, here Here) ([]attest.Registers, error) {
	registers, _, err := registersOf(m, here)
	if err == nil {
		return []attest.Registers{registers}, nil
	}
	if all := registersByAnotherSigner(m, here); len(all) > 0 {
		return all, nil
	}
	return nil, err
}

// beforeOwnChange are the registers of this very image before its release's change of Secure
// Boot's variables, where a manifest is of that. No log is asked: it is the same code
// that sealed the key and takes it, and a log's word that went stale while the power
// was off would close the data, since there is no release to fall back to.
func beforeOwnChange(m *release.Manifest, here Here) (attest.Registers, bool) {
	c := &candidate{manifest: m}
	boot, err := c.on(here)
	if err != nil || !c.runs || boot != m.AfterChange() {
		return c.registers, false
	}
	c.registers[7], err = parseRegister(m.BeforeChange().SHA256["7"])
	return c.registers, err == nil
}

// signedBy is a release that one of the policy's keys has signed. The error is
// release.Verify's for the last of them.
func signedBy(r api.UpdateRelease, p ownership.UpdatePolicy) (m *release.Manifest, err error) {
	keys, _, err := trusted(p)
	for _, key := range keys {
		if m, _, err = release.Verify(r.Manifest, r.Bundle, key); err == nil {
			return m, nil
		}
	}
	return nil, err
}

// registersByAnotherSigner are those of a release whose image another certificate
// vouched for: of its boots that are other than this one's in register 7 alone, beside
// the image's. One that changes db or dbx has two, and what the machine had is not to be
// told from here: the lists show in register 7 together with who vouched.
func registersByAnotherSigner(m *release.Manifest, here Here) (all []attest.Registers) {
	for _, boot := range m.Boots {
		seven, err := parseRegister(boot.SHA256["7"])
		if err != nil {
			continue
		}
		beside := here
		beside.Registers[7] = seven
		if r, _, err := registersOf(m, beside); err == nil {
			all = append(all, r)
		}
	}
	return all
}
