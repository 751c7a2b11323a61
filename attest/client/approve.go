package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/evidence"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/release"
)

// UpdateStep is where a machine is with the release that it was offered.
type UpdateStep string

// The steps, as package agent/api has them: the last three are ends.
const (
	UpdateAwaiting   UpdateStep = "awaiting-approval"
	UpdateFetching   UpdateStep = "fetching"
	UpdateInstalling UpdateStep = "installing"
	UpdateTrying     UpdateStep = "trying"
	UpdateDone       UpdateStep = "done"
	UpdateRefused    UpdateStep = "refused"
	UpdateFellBack   UpdateStep = "fell-back"
)

// Ended says that nothing more comes of the offer.
func (s UpdateStep) Ended() bool {
	return s == UpdateDone || s == UpdateRefused || s == UpdateFellBack
}

// OfferedUpdate is what a machine says to its owner of the release that it was
// offered last.
type OfferedUpdate struct {
	Step    UpdateStep
	Reason  string
	Release attest.ReleaseDigest
	// Number is that of the machine's next update.
	Number uint64

	shown evidence.ReferenceValues
}

var (
	// ErrNoOffer says that no release waits for the owner's word.
	ErrNoOffer = fmt.Errorf("%w: no release waits for your approval", attest.ErrRefused)
	// ErrOlder says that a release is older than what this client, or the machine,
	// has come to.
	ErrOlder = fmt.Errorf("%w: the offered release is older", attest.ErrRelease)
)

// Offered is the release that the session's machine was offered last; its Step is
// empty where it was offered none. The error is ErrAnothers or an attest.ErrClaim for
// a machine that is not the owner's, attest.ErrMalformed, a *channel.StatusError or
// the network's.
func (s *Session) Offered(ctx context.Context, keys Keys) (*OfferedUpdate, error) {
	if s.Evidence.Claim.IsZero() {
		return nil, fmt.Errorf("%w: the machine has no owner", attest.ErrClaim)
	}
	if err := s.ownClaim(ctx, keys); err != nil {
		return nil, err
	}
	return s.offered(ctx, keys)
}

func (s *Session) offered(ctx context.Context, keys Keys) (*OfferedUpdate, error) {
	b, err := s.ask(ctx, keys, channel.UpdatePath, channel.MaxUpdateBytes)
	if err != nil {
		return nil, fmt.Errorf("asking what the machine is offered: %w", err)
	}
	return parseUpdate(b)
}

// parseUpdate reads a channel.Update, of which a manifest that is there has to be the
// named release's. Errors are attest.ErrMalformed.
func parseUpdate(b []byte) (*OfferedUpdate, error) {
	var u channel.Update
	if err := canon.Unmarshal("update", b, channel.MaxUpdateBytes, &u); err != nil {
		return nil, err
	}
	o := &OfferedUpdate{
		Step: UpdateStep(u.Step), Reason: u.Reason, Release: u.Release, Number: u.Number,
		shown: evidence.ReferenceValues{Manifest: u.Manifest, Bundle: u.Bundle, Proof: u.Proof},
	}
	switch {
	case !o.Step.known():
		return nil, fmt.Errorf("%w: update.step is none of the steps", attest.ErrMalformed)
	case len(o.Reason) > maxReason:
		return nil, fmt.Errorf("%w: update.reason has %d bytes, at most %d", attest.ErrMalformed, len(o.Reason), maxReason)
	case o.Step != "" && o.Release.IsZero():
		return nil, fmt.Errorf("%w: update names no release", attest.ErrMalformed)
	case len(u.Manifest) > 0 && attest.ReleaseDigest(attest.Sum(u.Manifest)) != u.Release:
		return nil, fmt.Errorf("%w: update.manifest is of another release than it names", attest.ErrMalformed)
	}
	return o, nil
}

// maxReason caps what a machine says of why.
const maxReason = 64

func (s UpdateStep) known() bool {
	switch s {
	case "", UpdateAwaiting, UpdateFetching, UpdateInstalling, UpdateTrying, UpdateDone, UpdateRefused, UpdateFellBack:
		return true
	}
	return false
}

// Vouched is the offered release, where this client's own trust vouches for it as it
// does for the release of a machine. The error is ErrNoOffer where the machine does
// not show it, ErrOlder for one that is older than any that was accepted or than the
// one that runs, an attest.ErrRelease for another architecture, or as
// release.VerifyLogged.
func (s *Session) Vouched(o *OfferedUpdate) (release.Logged, error) {
	if len(o.shown.Manifest) == 0 {
		return release.Logged{}, ErrNoOffer
	}
	logged, err := s.trust.terms(s.trust.Now()).VerifyRelease(o.shown)
	if err := errors.Join(err, s.learn(logged.Learned)); err != nil {
		return release.Logged{}, fmt.Errorf("verifying the offered release: %w", err)
	}
	m, floor := logged.Manifest, max(s.trust.Policy.EpochFloor, s.Release.Epoch)
	switch {
	case m.Epoch < floor:
		return release.Logged{}, fmt.Errorf("%w: version %s has epoch %d, below the floor %d", ErrOlder, m.Version, m.Epoch, floor)
	case m.Architecture != s.Release.Architecture:
		return release.Logged{}, fmt.Errorf("%w: the offered release is for %s, and the machine is %s", attest.ErrRelease, m.Architecture, s.Release.Architecture)
	}
	return logged, nil
}

// Approve signs that the offered release may have the data that the release which
// this session has verified has, once, and hands that to the machine. The error is
// ErrNoOffer where it does not wait for it, as Vouched, as Offered, or a
// *channel.StatusError where the machine does not take it.
func (s *Session) Approve(ctx context.Context, keys Keys, o *OfferedUpdate) (*ownership.Approval, error) {
	if o.Step != UpdateAwaiting {
		return nil, ErrNoOffer
	}
	logged, err := s.Vouched(o)
	if err != nil {
		return nil, err
	}
	if err := s.ownClaim(ctx, keys); err != nil {
		return nil, err
	}
	a, err := ownership.Approve(keys.Owner, ownership.ApprovalBody{
		Claim: s.Evidence.Claim, Number: o.Number, From: s.Evidence.Registers.SealDigest(s.Release.Firmware != nil),
		Release: logged.Digest, Epoch: logged.Manifest.Epoch,
	})
	if err != nil {
		return nil, fmt.Errorf("signing the approval: %w", err)
	}
	req, err := s.Conn.Request(ctx, http.MethodPost, channel.UpdatePath, a.Encode())
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", channel.ContentType)
	req.Header.Set(ownership.Header, s.Token(keys))
	if _, err := s.Conn.Do(req, channel.MaxRequestBytes); err != nil {
		return nil, fmt.Errorf("handing the approval over: %w", err)
	}
	return a, nil
}

// OnTrial says that the release which the session has verified may still be given up
// for the one before: what is remembered of it must not keep its owner from that. A
// machine that has no time to say so may be. Errors are the network's.
func (s *Session) OnTrial(ctx context.Context, keys Keys) (bool, error) {
	o, err := s.offered(ctx, keys)
	var status *channel.StatusError
	switch {
	case errors.As(err, &status):
		return status.Code == http.StatusServiceUnavailable, nil
	case errors.Is(err, attest.ErrMalformed):
		// A machine that is never updated in place leaves the answer to its payload.
		return false, nil
	case err != nil:
		return false, err
	}
	if s.Release.Pending(s.Evidence.Registers[7]) != nil && o.Step != UpdateInstalling && o.Step != UpdateTrying {
		// It is offered once more, for what it changes of Secure Boot's variables.
		return false, nil
	}
	return o.Release == s.Logged.Digest && o.Step != UpdateDone, nil
}

// Change is what the offered release changes of Secure Boot's variables. now says that
// this is all that is offered: the machine runs the release's image, whichever release
// shows it as its own, and has not made the change. It is nil where there is none, or
// where the machine has made it.
func (s *Session) Change(offered release.Logged) (c *release.SecureBootChange, now bool) {
	if offered.Digest == s.Logged.Digest || s.shows(offered.Manifest.BeforeChange()) || s.shows(offered.Manifest.AfterChange()) {
		c = offered.Manifest.Pending(s.Evidence.Registers[7])
		return c, c != nil
	}
	return offered.Manifest.SecureBootChange, false
}

// shows is by the registers, which are what the machine goes by.
func (s *Session) shows(b *release.Boot) bool {
	if b == nil {
		return false
	}
	for _, n := range attest.SealedRegisters(false) {
		if value, named := b.SHA256[strconv.Itoa(int(n))]; named && value != s.Evidence.Registers[n].String() {
			return false
		}
	}
	return true
}
