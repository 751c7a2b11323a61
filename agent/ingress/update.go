package ingress

import (
	"errors"
	"net/http"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
)

func (d *Ingress) update(w http.ResponseWriter, _ *http.Request) {
	var shown channel.Update
	var err error
	if !d.withTPMSlot(w, func() { shown, err = d.Machine.ShownUpdate() }) {
		return
	}
	if err != nil {
		refuse(w, http.StatusInternalServerError, "tpm", "the tpm does not say how many updates there were")
		return
	}
	b, err := canon.Marshal(shown)
	if err != nil || len(b) > channel.MaxUpdateBytes {
		refuse(w, http.StatusInternalServerError, "update", "what is offered cannot be said")
		return
	}
	answer(w, http.StatusOK, b)
}

func (d *Ingress) approve(w http.ResponseWriter, r *http.Request) {
	setDeadlines(w, time.Now().Add(d.patience))
	body, ok := read(w, r)
	if !ok {
		return
	}
	var err error
	if !d.withTPMSlot(w, func() { err = d.Machine.ApproveUpdate(body) }) {
		return
	}
	switch {
	case err == nil:
		answer(w, http.StatusOK, nil)
	case errors.Is(err, attest.ErrMalformed):
		refuse(w, http.StatusBadRequest, "malformed", err.Error())
	case errors.Is(err, attest.ErrRefused):
		refuse(w, http.StatusConflict, "not-approved", err.Error())
	default:
		refuse(w, http.StatusInternalServerError, "tpm", "the approval could not be looked at")
	}
}

// unlessTrying keeps requests from the payload of a release that may be given up,
// and all that it did with it.
func (d *Ingress) unlessTrying(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.Machine.Trying() {
			w.Header().Set("Retry-After", "2")
			refuse(w, http.StatusServiceUnavailable, "updating", "a new release is on trial: the toolshed answers once it is kept")
			return
		}
		next.ServeHTTP(w, r)
	})
}
