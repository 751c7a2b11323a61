// Package problem answers HTTP requests that cannot be served, as RFC 9457
// wants it.
//
// Invariants: the code of a problem is stable and for programs, its detail is
// for people and says what was wrong, and neither repeats a secret.
package problem

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/toolshed-cloud/shed/orchestrator"
)

// ContentType is that of every problem document.
const ContentType = "application/problem+json"

// Problem is one document.
type Problem struct {
	Type   string `json:"type" doc:"always about:blank: the code tells problems apart"`
	Title  string `json:"title" doc:"the status in words"`
	Status int    `json:"status"`
	Code   string `json:"code" doc:"stable, for programs"`
	Detail string `json:"detail" doc:"what went wrong, for people"`
}

// New makes a problem.
func New(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// Of says what an error of the control plane is to a client. What it does not
// know is nobody's business outside.
func Of(err error) *Problem {
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, orchestrator.ErrNotFound):
		return New(http.StatusNotFound, "not-found", err.Error())
	case errors.Is(err, orchestrator.ErrConflict), errors.Is(err, orchestrator.ErrStale):
		return New(http.StatusConflict, "conflict", err.Error())
	case errors.Is(err, orchestrator.ErrFull):
		return New(http.StatusInsufficientStorage, "storage-full", "the control plane's disk is full; nothing was stored")
	default:
		return New(http.StatusInternalServerError, "internal", "the control plane could not do this; its log says why")
	}
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus makes a problem what the admin API returns as it stands.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes the admin API label it.
func (p *Problem) ContentType(string) string { return ContentType }

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(p)
}
