package ingress

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/problem"
)

// session is what the ingress remembers of one connection.
type session struct {
	// mu guards nonce.
	mu sync.Mutex
	// nonce is what a claim on this connection must answer; zero when none was
	// drawn or it was used.
	nonce attest.Nonce
}

type sessionKey struct{}

func withSession(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, sessionKey{}, &session{})
}

func (s *session) set(nonce attest.Nonce) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonce = nonce
}

// take returns the nonce once.
func (s *session) take() attest.Nonce {
	s.mu.Lock()
	defer s.mu.Unlock()
	nonce := s.nonce
	s.nonce = attest.Nonce{}
	return nonce
}

func (d *Ingress) evidence(w http.ResponseWriter, r *http.Request) {
	var nonce attest.Nonce
	text := r.URL.Query().Get("nonce")
	if n, err := hex.DecodeString(text); err != nil || len(n) != len(nonce) {
		refuse(w, http.StatusBadRequest, "bad-nonce", "nonce: want 64 hex digits")
		return
	} else {
		copy(nonce[:], n)
	}
	ch, err := d.channel(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad-channel", err.Error())
		return
	}
	// All who ask at once share a quote, so that no slot of the TPM's is taken:
	// what bounds them is the number of connections.
	b, err := d.Machine.Evidence(ch, nonce)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "tpm", "the tpm gave no evidence")
		return
	}
	answer(w, http.StatusOK, b)
}

func (d *Ingress) activation(w http.ResponseWriter, r *http.Request) {
	var req channel.ActivationRequest
	if !decode(w, r, "activation request", &req) {
		return
	}
	ch, err := d.channel(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad-channel", err.Error())
		return
	}
	var opened attest.Digest
	if !d.withTPMSlot(w, func() { opened, err = d.Machine.Activate(ch, req.CredentialBlob, req.EncryptedSecret) }) {
		return
	}
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, "not-activated", "the credential was not made for this machine's keys")
		return
	}
	answer(w, http.StatusOK, opened[:])
}

func (d *Ingress) claimNonce(w http.ResponseWriter, r *http.Request) {
	if d.Machine.Owner() != nil {
		refuse(w, http.StatusConflict, "claimed", "this machine has an owner already")
		return
	}
	var nonce attest.Nonce
	if _, err := io.ReadFull(d.Rand, nonce[:]); err != nil {
		refuse(w, http.StatusInternalServerError, "random", "no nonce could be drawn")
		return
	}
	r.Context().Value(sessionKey{}).(*session).set(nonce)
	answer(w, http.StatusOK, nonce[:])
}

var errStaleClaim = errors.New("the claim does not answer a nonce of this connection")

// claimDocument is for the owner alone: evidence shows its digest to anybody.
func (d *Ingress) claimDocument(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, d.Machine.Owner().Encode())
}

func (d *Ingress) output(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(d.Output()) //nolint:errcheck // the other side is gone
}

func (d *Ingress) claim(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r)
	if !ok {
		return
	}
	c, err := ownership.Parse(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad-claim", err.Error())
		return
	}
	take := func() {
		if !answersNonce(r, c) {
			err = errStaleClaim
			return
		}
		// Making the volume takes as long as it takes, taking the answer does not.
		setDeadlines(w, time.Time{})
		err = d.Machine.Claim(r.Context(), c)
		setDeadlines(w, time.Now().Add(d.patience))
	}
	if !d.withTPMSlot(w, take) {
		return
	}
	switch {
	case errors.Is(err, errStaleClaim):
		refuse(w, http.StatusForbidden, "stale-claim", err.Error())
	case err == nil:
		digest := c.Digest()
		answer(w, http.StatusCreated, digest[:])
	case errors.Is(err, seal.ErrClaimed):
		refuse(w, http.StatusConflict, "claimed", "this machine has an owner already")
	case errors.Is(err, seal.ErrNotBlank):
		refuse(w, http.StatusConflict, "disk-not-blank", "the data disk holds something already")
	case errors.Is(err, attest.ErrRefused):
		refuse(w, http.StatusForbidden, "refused", err.Error())
	default:
		refuse(w, http.StatusInternalServerError, "claim-failed", "the claim could not be carried out; reconnect to see whether it holds")
	}
}

// answersNonce reports whether a claim answers the nonce of its connection, which
// then is used. It is asked once the machine has time: one that is busy leaves
// the nonce for the next try.
func answersNonce(r *http.Request, c *ownership.Claim) bool {
	nonce := r.Context().Value(sessionKey{}).(*session).take()
	return nonce != (attest.Nonce{}) && c.Body.Nonce == nonce
}

// decode reads a capped body into what it is called, or answers 400, 413 or 408.
// The body is wiped: a key may be in it.
func decode[T any](w http.ResponseWriter, r *http.Request, called string, into *T) bool {
	body, ok := read(w, r)
	if !ok {
		return false
	}
	defer clear(body)
	if err := canon.Unmarshal(called, body, channel.MaxRequestBytes, into); err != nil {
		refuse(w, http.StatusBadRequest, "malformed", err.Error())
		return false
	}
	return true
}

// read returns a capped body, or answers 413 or 408.
func read(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, channel.MaxRequestBytes))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		refuse(w, http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the body has more than %d bytes", channel.MaxRequestBytes))
	case err != nil:
		refuse(w, http.StatusRequestTimeout, "incomplete", "the body did not arrive")
	}
	return b, err == nil
}

func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", channel.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body) //nolint:errcheck // the other side is gone, and nothing is kept for it
}

func refuse(w http.ResponseWriter, status int, code, detail string) {
	problem.New(status, code, detail).Write(w)
}
