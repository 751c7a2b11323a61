// Package problem is how an HTTP request is answered that cannot be served
// (RFC 9457), and how such an answer is read.
//
// Invariants: the code of a problem is stable and for programs, its detail is
// for people and says what was wrong, and neither repeats a secret.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
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

func (p *Problem) Error() string { return p.Detail }

// GetStatus makes a problem what huma returns as it stands.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes huma label it.
func (p *Problem) ContentType(string) string { return ContentType }

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(p)
}

// MaxBytes caps a document that is read.
const MaxBytes = 8 << 10

// ErrNone says that an answer holds no problem document.
var ErrNone = errors.New("the answer is no problem document")

// Parse reads the body of an answer with the given status. The error is
// ErrNone where it is none of these documents.
func Parse(status int, body []byte) (*Problem, error) {
	var p Problem
	if len(body) > MaxBytes || json.Unmarshal(body, &p) != nil || p.Detail == "" {
		return nil, ErrNone
	}
	// What the other side says of its own status is not taken over it.
	p.Status = status
	return &p, nil
}

// NotFound answers a path that nothing is at.
func NotFound(w http.ResponseWriter, _ *http.Request) {
	New(http.StatusNotFound, "not-found", "nothing is at this path").Write(w)
}

// MethodNotAllowed answers every request with the methods that its path takes.
func MethodNotAllowed(methods ...string) http.HandlerFunc {
	if slices.Contains(methods, http.MethodGet) && !slices.Contains(methods, http.MethodHead) {
		methods = append(slices.Clone(methods), http.MethodHead)
	}
	slices.Sort(methods)
	allow := strings.Join(methods, ", ")
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allow)
		New(http.StatusMethodNotAllowed, "method-not-allowed", fmt.Sprintf("this path takes %s", allow)).Write(w)
	}
}
