// Package signup takes in what the outside asks for: that a user shall have an
// instance, or none.
//
// Invariants: a message that cannot be shown to come from who shares the
// secret, recently, leaves no trace; one that is answered with success has its
// receipt, the desired state and the job on the disk in one transaction; a user has one
// instance however often it is asked for, and a request older than the user's
// last deletion brings nothing back.
package signup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/internal/failpoint"
	"github.com/toolshed-cloud/shed/orchestrator/internal/refusal"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// Path is where webhooks are posted.
const Path = adminclient.WebhookPath

// MaxBodyBytes caps a message.
const MaxBodyBytes = 64 << 10

// Handler is the webhooks' listener.
type Handler struct {
	Service Service
	Store   store.Store
	Secret  Secret
	Logger  *zap.Logger
	Trap    failpoint.Trap
	// Count is told each answer's code, for the metrics.
	Count func(code string)
}

var _ http.Handler = (*Handler)(nil)

// Routes is the handler with everything else refused.
func (h *Handler) Routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST "+Path, h)
	return problem.Routes(mux)
}

// ServeHTTP takes one message in.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	outcome, err := h.take(w, r)
	if err != nil {
		p := classify(err)
		h.Count(p.Code)
		h.Logger.Warn("webhook refused", zap.String("code", p.Code), zap.Error(err))
		p.Write(w)
		return
	}
	h.Count(string(outcome.Result))
	h.Logger.Info("webhook taken in", zap.String("result", string(outcome.Result)),
		zap.String("instance", string(outcome.Instance)), zap.String("reason", outcome.Reason))
	w.Header().Set("Content-Type", "application/json")
	// A sender that is gone sends again, and is told that it is a duplicate.
	_ = json.NewEncoder(w).Encode(outcome)
}

func classify(err error) *problem.Problem {
	switch {
	case errors.Is(err, ErrSignature):
		return problem.New(http.StatusUnauthorized, "signature-refused", err.Error())
	case errors.Is(err, ErrEvent):
		return problem.New(http.StatusBadRequest, "event-invalid", err.Error())
	default:
		return refusal.Of(err)
	}
}

func (h *Handler) take(w http.ResponseWriter, r *http.Request) (Outcome, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return Outcome{}, problem.New(http.StatusUnsupportedMediaType, "content-type", "content-type is not application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return Outcome{}, problem.New(http.StatusRequestEntityTooLarge, "body-too-large",
			fmt.Sprintf("the body has more than %d bytes", MaxBodyBytes))
	case err != nil:
		return Outcome{}, problem.New(http.StatusBadRequest, "body-incomplete", "the body did not arrive whole")
	}
	now := h.Service.Clock()
	id, err := h.Secret.Check(r.Header, body, now)
	if err != nil {
		return Outcome{}, err
	}
	event, err := ParseEvent(body, now)
	if err != nil {
		return Outcome{}, err
	}
	return h.commit(r.Context(), id, attest.Sum(body), event)
}

// errTakenIn undoes what a message asked for that was taken in before.
var errTakenIn = errors.New("the message was taken in before")

// commit makes receipt, desired state and job one transaction. That a message
// is new is found out by writing its receipt: nearly all are.
func (h *Handler) commit(ctx context.Context, id string, body attest.Digest, e Event) (Outcome, error) {
	var outcome Outcome
	err := h.Store.Update(ctx, func(tx store.Tx) (err error) {
		if e.Type == UserCreated {
			outcome, err = h.Service.SignUp(tx, e.User, e.Wish, e.At)
		} else {
			outcome, err = h.Service.Delete(tx, e.User, e.At)
		}
		if err != nil {
			return err
		}
		err = tx.PutReceipt(store.Receipt{ID: id, Body: body, At: h.Service.Clock(), Result: string(outcome.Result)})
		if errors.Is(err, orchestrator.ErrConflict) {
			return errTakenIn
		}
		return err
	})
	if errors.Is(err, errTakenIn) {
		return h.duplicate(ctx, id, body)
	}
	if err != nil {
		return Outcome{}, err
	}
	h.Trap(failpoint.AfterInboxCommit)
	return outcome, nil
}

// duplicate answers a message whose id is known.
func (h *Handler) duplicate(ctx context.Context, id string, body attest.Digest) (Outcome, error) {
	var before store.Receipt
	err := h.Store.View(ctx, func(v store.Reader) (err error) {
		before, err = v.Receipt(id)
		return err
	})
	if err != nil {
		// Where it is not there after all, the commit that had it has failed.
		return Outcome{}, fmt.Errorf("reading the receipt of a message that was taken in: %v", err) //nolint:errorlint // it is no answer
	}
	if before.Body != body {
		return Outcome{}, problem.New(http.StatusConflict, "webhook-id-reused", "this webhook-id came with another body before")
	}
	return Outcome{Result: Duplicate, Reason: "this message was taken in before: " + before.Result}, nil
}
