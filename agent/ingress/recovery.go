package ingress

import (
	"errors"
	"net/http"
	"time"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// ownerOnceClaimed is open to anybody on a machine without an owner, who has to
// bring what only the data's owner has, and to the owner alone on one with.
func (d *Ingress) ownerOnceClaimed(next http.HandlerFunc) http.HandlerFunc {
	guarded := d.requireOwner(next)
	return func(w http.ResponseWriter, r *http.Request) {
		if d.Machine.Owner() == nil {
			next(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	}
}

func (d *Ingress) left(w http.ResponseWriter, _ *http.Request) {
	left, err := d.Machine.Left()
	switch {
	case err != nil:
		refuse(w, http.StatusInternalServerError, "data-disk", "the data disk cannot be read")
		return
	case left == nil:
		refuse(w, http.StatusNotFound, "nothing-left", seal.ErrNothingLeft.Error())
		return
	}
	b, err := canon.Marshal(channel.Left{Claim: left.Claim, Volume: left.Volume, Wrapped: left.Recovery, Vouched: left.Vouched})
	if err != nil {
		refuse(w, http.StatusInternalServerError, "data-disk", "what is on the data disk cannot be said")
		return
	}
	answer(w, http.StatusOK, b)
}

func (d *Ingress) recover(w http.ResponseWriter, r *http.Request) {
	var given channel.Recovery
	if !decode(w, r, "recovery", &given) {
		return
	}
	defer clear(given.Key)
	var c *ownership.Claim
	if len(given.Claim) > 0 {
		var err error
		if c, err = ownership.Parse(given.Claim); err != nil {
			refuse(w, http.StatusBadRequest, "bad-claim", err.Error())
			return
		}
	}
	var err error
	take := func() {
		if c != nil && !answersNonce(r, c) {
			err = errStaleClaim
			return
		}
		setDeadlines(w, time.Time{})
		err = d.Machine.Recover(r.Context(), c, given.Volume, given.Key)
		setDeadlines(w, time.Now().Add(d.patience))
	}
	if d.withTPMSlot(w, take) {
		d.answerRecovery(w, err)
	}
}

func (d *Ingress) answerRecovery(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		digest := d.Machine.Owner().Digest()
		answer(w, http.StatusOK, digest[:])
	case errors.Is(err, errStaleClaim):
		refuse(w, http.StatusForbidden, "stale-claim", err.Error())
	case errors.Is(err, seal.ErrNothingLeft):
		refuse(w, http.StatusConflict, "nothing-left", err.Error())
	case errors.Is(err, seal.ErrClaimed):
		refuse(w, http.StatusConflict, "claimed", "this machine has an owner already")
	case errors.Is(err, seal.ErrForeign):
		refuse(w, http.StatusForbidden, "wrong-key", "this is not the key of the volume on the data disk")
	case errors.Is(err, attest.ErrRefused):
		refuse(w, http.StatusForbidden, "refused", err.Error())
	default:
		refuse(w, http.StatusInternalServerError, "recovery-failed", "the data could not be opened; reconnect to see whether the machine is yours, and try again")
	}
}
