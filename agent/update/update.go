// Package update takes a machine from one release to the next and, where that is
// not healthy, leaves it where it was; and it has the release that runs change the
// variables of Secure Boot.
//
// Invariants: a release is tried only where the owner's keys, log and witnesses
// vouch for it and the owner has approved it, or their standing policy has; the
// release that runs writes the other slot and lets it open the data, and changes
// nothing else, so that a cut of the power at any moment leads back to it; what the
// operator says is an offer. What is refused or failed is not tried again before it
// is offered again.
package update

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/agent/bootentry"
	"github.com/toolshed-cloud/shed/agent/esp"
	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/backoff"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// ErrRestart says that the machine has to start anew: it is to start the other slot,
// or to leave it.
var ErrRestart = errors.New("the machine starts anew")

// ErrNothingOffered says that an approval is for no release that is offered.
var ErrNothingOffered = fmt.Errorf("%w: it is not for the release that is offered to this machine", attest.ErrClaim)

// Volume is the owner's volume; *seal.DataVolume is.
type Volume interface {
	HandOver(seal.Successor) error
	// Keep takes back what HandOver gave.
	Keep() error
	NextUpdate() (uint64, error)
}

var _ Volume = (*seal.DataVolume)(nil)

// Firmware starts another file once; bootentry.Variables does.
type Firmware interface {
	StartOnce(bootentry.File) error
	SecureBoot() (bool, error)
}

// Lists are those by which firmware tells what it starts, db and dbx;
// signaturelist.Variables does.
type Lists interface {
	Write(variable string, write []byte) error
}

// Parts are what an Updater is made of. Source is needed by Run alone.
type Parts struct {
	// Owner is the claim in force; nil without one.
	Owner func() *ownership.Claim
	// Here reads the machine; of SecureBoot it says nothing.
	Here     func() (Here, error)
	Volume   Volume
	Source   Source
	Slots    Slots
	Firmware Firmware
	Lists    Lists
	Records  Records
	// Vouching is what the control plane says vouches for the release that runs.
	Vouching func() api.UpdateRelease
	Now      func() time.Time
	Log      *zap.Logger
}

// Updater looks after a machine's updates while one release runs.
type Updater struct {
	Parts

	// mu guards the fields below.
	mu     sync.Mutex
	record record
	loaded bool
	// shown is what came of the release that is offered; empty before.
	shown api.UpdateRelease
	// since is when this boot first checked it.
	since time.Time
	// woken is signalled at each offer and approval, changed at each step.
	woken, changed chan struct{}
	// busy says that the offer on record is being installed or tried: until that
	// has ended, or the machine starts anew, it hears of no other.
	busy bool
}

// New makes an Updater that has heard of no offer.
func New(p Parts) *Updater {
	return &Updater{Parts: p, woken: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
}

// Changed is signalled when the status changes.
func (u *Updater) Changed() <-chan struct{} { return u.changed }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Offered takes an offer of the control plane's.
func (u *Updater) Offered(o api.Offer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.busy || u.record.offer() == o {
		return
	}
	next := record{Release: o.Release, Attempt: o.Attempt}
	// The owner's word is for a release, however often that is offered.
	if u.record.Release == o.Release {
		next.Approval, next.Known = u.record.Approval, u.record.Known
	}
	u.set(next)
	u.shown = api.UpdateRelease{}
	signal(u.woken)
}

// TakenBack forgets an offer, and the owner's word for it, unless the machine is on its
// way to the release or has come to an end with it.
func (u *Updater) TakenBack(o api.Offer) {
	u.mu.Lock()
	defer u.mu.Unlock()
	step := api.UpdateStep(u.record.Step)
	if u.busy || u.record.offer() != o || step.Ended() || step.UnderWay() {
		return
	}
	u.set(record{})
	u.shown = api.UpdateRelease{}
}

// Load reads what is remembered, once the owner's volume is open. An offer that was
// heard before is remembered from then on.
func (u *Updater) Load() {
	u.mu.Lock()
	defer u.mu.Unlock()
	r, err := u.Records.load()
	if err != nil {
		u.Log.Warn("what is remembered of updates is not read", zap.Error(err))
	}
	u.loaded = true
	if u.record.Release.IsZero() {
		u.record = r
		return
	}
	u.set(u.record)
}

// set keeps a record. Where it cannot be kept it holds for this boot.
func (u *Updater) set(r record) {
	before := u.record
	u.record = r
	if u.loaded {
		if err := u.Records.save(r); err != nil {
			u.Log.Warn("how far an update is will be forgotten", zap.Error(err))
		}
	}
	if r.Step != before.Step || r.Release != before.Release || r.Attempt != before.Attempt {
		u.Log.Info("update", zap.Stringer("release", r.Release), zap.String("step", r.Step), zap.String("reason", r.Reason))
		signal(u.changed)
	}
}

// step moves the record on, unless another offer has come meanwhile.
func (u *Updater) step(of api.Offer, step api.UpdateStep, reason api.UpdateReason) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.record.offer() != of {
		return
	}
	r := u.record
	r.Step, r.Reason = string(step), string(reason)
	u.set(r)
}

// Status is what the control plane is told; nil before the first offer.
func (u *Updater) Status() *api.UpdateStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.record.status()
}

// Shown is what the owner is told. Errors are the TPM's.
func (u *Updater) Shown() (channel.Update, error) {
	number, err := u.Volume.NextUpdate()
	if err != nil {
		return channel.Update{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	shown := channel.Update{Number: number}
	if u.record.Step == "" {
		return shown, nil
	}
	shown.Step, shown.Reason, shown.Release = u.record.Step, u.record.Reason, u.record.Release
	shown.Manifest, shown.Bundle, shown.Proof = u.shown.Manifest, u.shown.Bundle, u.shown.Proof
	return shown, nil
}

// Approve takes the owner's word. Errors are ownership.ParseApproval's, and
// ErrNothingOffered.
func (u *Updater) Approve(encoded []byte) error {
	owner := u.Owner()
	if owner == nil {
		return ErrNothingOffered
	}
	a, err := ownership.ParseApproval(encoded, owner)
	if err != nil {
		return err
	}
	if err := u.fits(a); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.record.Release != a.Body.Release || api.UpdateStep(u.record.Step).Ended() {
		return ErrNothingOffered
	}
	r := u.record
	r.Approval = encoded
	u.set(r)
	signal(u.woken)
	return nil
}

// fits refuses an approval that is for another state of the machine.
func (u *Updater) fits(a *ownership.Approval) error {
	number, err := u.Volume.NextUpdate()
	if err != nil {
		return err
	}
	here, err := u.Here()
	if err != nil {
		return err
	}
	from := here.Registers.SealDigest(here.Firmware)
	switch {
	case a.Body.Number != number:
		return fmt.Errorf("%w: the approval is for update %d, the next is %d", attest.ErrClaim, a.Body.Number, number)
	case a.Body.From != from:
		return fmt.Errorf("%w: the approval is for a machine that runs another release", attest.ErrClaim)
	}
	return nil
}

// The pauses between two tries to reach the control plane, and between two looks at
// a release that waits: for a standing policy's delay to be over, or for its owner,
// to whom the log's word is shown while it is fresh.
const (
	firstPause = time.Second
	lastPause  = time.Minute
	delayPause = time.Minute
	ownerPause = 10 * time.Minute
)

// Run follows the offers until the machine has to start anew for one, which is
// ErrRestart, or ctx ends.
func (u *Updater) Run(ctx context.Context) error {
	for failures := 1; ; failures++ {
		pause, err := u.pass(ctx)
		if errors.Is(err, ErrRestart) {
			return err
		}
		if err == nil {
			failures = 0
		} else {
			u.Log.Warn("update", zap.Error(err))
			pause = backoff.Pause(failures, firstPause, lastPause)
		}
		var timer <-chan time.Time
		if pause > 0 {
			timer = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-u.woken:
		case <-timer:
		}
	}
}

// pass takes the offer as far as it goes now, and is after what time it may go
// further; zero for none.
func (u *Updater) pass(ctx context.Context) (pause time.Duration, err error) {
	u.mu.Lock()
	r := u.record
	u.mu.Unlock()
	if r.Release.IsZero() || api.UpdateStep(r.Step).Ended() {
		return 0, nil
	}
	owner := u.Owner()
	if owner == nil {
		u.step(r.offer(), api.UpdateRefused, api.ReasonUnclaimed)
		return 0, nil
	}
	c, err := u.examine(ctx, r, owner)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		u.Log.Warn("an update is refused", zap.Stringer("release", r.Release), zap.Error(err))
		u.step(r.offer(), api.UpdateRefused, refusal.Reason)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if c.runs {
		u.step(r.offer(), api.UpdateDone, "")
		return 0, nil
	}
	approval, consents, err := u.consent(owner, c)
	if err != nil || !consents {
		u.step(r.offer(), api.UpdateAwaiting, "")
		if owner.Body.Update.Consent == ownership.UpdateStanding {
			return delayPause, err
		}
		return ownerPause, err
	}
	if c.change != nil {
		return 0, u.change(ctx, r.offer(), c, owner, approval)
	}
	return 0, u.install(ctx, r.offer(), c, approval)
}

var errAnother = errors.New("another release was offered meanwhile")

// examine fetches what the offered release says of itself, and checks it.
func (u *Updater) examine(ctx context.Context, r record, owner *ownership.Claim) (*candidate, error) {
	came, err := u.Source.Release(ctx, r.Release)
	if err != nil {
		return nil, err
	}
	here, err := u.Here()
	if err != nil {
		return nil, err
	}
	if here.SecureBoot, err = u.Firmware.SecureBoot(); err != nil {
		return nil, refuse(api.ReasonOtherMachine, "%w", err)
	}
	here.SecureBootEvents = secureBootEvents(u.Vouching().Manifest, here.Registers[7])
	c, err := check(came, r.Release, owner.Body.Update, here, u.Now())
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.record.offer() != r.offer() {
		return nil, errAnother
	}
	if u.shown.Manifest == nil {
		u.since = u.Now()
	}
	u.shown = came
	if u.record.Known == 0 && !c.loggedAt.IsZero() {
		next := u.record
		next.Known = c.loggedAt.Unix()
		u.set(next)
	}
	return c, nil
}

// consent is whether the owner lets the release have the data, and the approval that
// says so; nil where their standing policy does. The policy's delay runs from the
// first time at which witnesses vouched for the release to the latest, which no
// host sets; without a log from this boot's first look at it.
func (u *Updater) consent(owner *ownership.Claim, c *candidate) (*ownership.Approval, bool, error) {
	u.mu.Lock()
	r, since := u.record, u.since
	u.mu.Unlock()
	if len(r.Approval) > 0 {
		a, err := ownership.ParseApproval(r.Approval, owner)
		if err == nil {
			err = u.fits(a)
		}
		if err == nil && a.Body.Release == c.digest && a.Body.Epoch == c.manifest.Epoch {
			return a, true, nil
		}
		if err != nil && !errors.Is(err, attest.ErrRefused) {
			return nil, false, err
		}
	}
	p := owner.Body.Update
	if p.Consent != ownership.UpdateStanding {
		return nil, false, nil
	}
	known := u.Now().Sub(since)
	if !c.loggedAt.IsZero() {
		known = c.loggedAt.Sub(r.knownAt())
	}
	return nil, known >= time.Duration(p.Delay)*time.Second, nil
}

// install writes the other slot, lets it open the data and has the firmware start
// it. A cut of the power between any two of its steps leads back to this release.
func (u *Updater) install(ctx context.Context, offer api.Offer, c *candidate, approval *ownership.Approval) error {
	u.step(offer, api.UpdateFetching, "")
	switch err := u.Slots.fill(ctx, c, u.Source); {
	case errors.Is(err, esp.ErrNoRoom):
		u.step(offer, api.UpdateRefused, api.ReasonNoRoom)
		return err
	case errors.Is(err, errOther):
		u.step(offer, api.UpdateRefused, api.ReasonUnreadable)
		return err
	case err != nil:
		return err
	}
	if !u.begin(offer) {
		return errAnother
	}
	if err := u.handOver(c, approval); err != nil {
		u.end(api.UpdateFellBack, api.ReasonInstallFailed)
		return err
	}
	return ErrRestart
}

func (u *Updater) handOver(c *candidate, approval *ownership.Approval) error {
	if err := u.Slots.leave(u.Vouching()); err != nil {
		return err
	}
	file, err := u.Slots.file()
	if err != nil {
		return err
	}
	if err := u.Volume.HandOver(seal.Successor{Registers: c.registers, Epoch: c.manifest.Epoch, Approval: approval}); err != nil {
		return err
	}
	if err := u.Firmware.StartOnce(file); err != nil {
		return errors.Join(err, u.Volume.Keep())
	}
	return nil
}
