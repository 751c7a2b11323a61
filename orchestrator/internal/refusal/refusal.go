// Package refusal says what the control plane's errors are to its clients.
//
// Invariants: what it does not know is nobody's business outside, and is an
// internal error there, whatever its text.
package refusal

import (
	"errors"
	"net/http"

	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// Of is the problem that an error is to a client.
func Of(err error) *problem.Problem {
	var p *problem.Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, orchestrator.ErrNotFound):
		return problem.New(http.StatusNotFound, "not-found", err.Error())
	case errors.Is(err, orchestrator.ErrConflict), errors.Is(err, orchestrator.ErrStale):
		return problem.New(http.StatusConflict, "conflict", err.Error())
	case errors.Is(err, orchestrator.ErrFull):
		return problem.New(http.StatusInsufficientStorage, "storage-full", "the control plane's disk is full; nothing was stored")
	default:
		return problem.New(http.StatusInternalServerError, "internal", "the control plane could not do this; its log says why")
	}
}
