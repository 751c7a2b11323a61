// Package problem answers requests that are refused with RFC 9457 documents.
//
// Invariants: every refusal of the toolshed is one document of this form; its
// code is stable and for programs, its detail is for people and names the part
// of the request that is wrong.
package problem

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
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

var (
	_ huma.StatusError       = (*Problem)(nil)
	_ huma.ContentTypeFilter = (*Problem)(nil)
)

// New makes a problem.
func New(status int, code, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// Of makes a problem whose code is its status in words.
func Of(status int, detail string) *Problem {
	return New(status, strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "-"), detail)
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus lets a handler return a problem as its error.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType labels the document.
func (p *Problem) ContentType(string) string { return ContentType }

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	// A client that is gone cannot be told.
	_ = json.NewEncoder(w).Encode(p)
}

var install sync.Once

// Install makes the framework's own refusals problems of ours. The framework
// has one such setting for the whole process.
func Install() {
	install.Do(func() {
		huma.NewError = func(status int, message string, errs ...error) huma.StatusError {
			for _, err := range errs {
				// The framework takes a body that was bounded before for a fault.
				if long, ok := errors.AsType[*http.MaxBytesError](err); ok {
					return New(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the body has %d bytes or more", long.Limit))
				}
				message += ": " + err.Error()
			}
			return Of(status, message)
		}
	})
}

// Unrouted answers what no route of the mux takes with a problem: 404, or 405
// with the methods that the path takes.
func Unrouted(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refusal, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		said := answer{header: http.Header{}}
		refusal.ServeHTTP(&said, r)
		detail := "no such path"
		if said.status == http.StatusMethodNotAllowed {
			w.Header()["Allow"] = said.header["Allow"]
			detail = "this path takes " + said.header.Get("Allow")
		}
		Of(said.status, detail).Write(w)
	})
}

// answer keeps what the mux says and drops its text.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
