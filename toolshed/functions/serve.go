package functions

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/functions/cgi"
	"github.com/toolshed-cloud/shed/toolshed/functions/sandbox"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// onAPI are the fields of a function's reply that it may say on the API's own
// origin, where its content is nobody's.
var onAPI = []string{
	"Content-Type", "Content-Language", "Content-Disposition", "Cache-Control", "Etag", "Expires", "Last-Modified", "Location", "Retry-After", "Vary",
}

// Origin serves a function on an origin of its own, at every path of it.
func (s *Service) Origin(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, err := s.shelf.callable(r.Context(), name)
		answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err != nil {
				writeRefusal(w, err)
				return
			}
			select {
			case s.visitors <- struct{}{}:
				defer func() { <-s.visitors }()
			default:
				writeRefusal(w, fmt.Errorf("%w: %d requests at once", ErrBusy, cap(s.visitors)))
				return
			}
			s.serve(w, cgi.Request{Request: r, Path: r.URL.Path}, f, false)
		})
		if err == nil && f.Settings.Public {
			answer(w, r)
			return
		}
		// Who may not call does not learn whether there is such a function.
		auth.Require(ScopeInvoke, answer).ServeHTTP(w, r)
	})
}

// invoke serves a function on the API's origin.
func (s *Service) invoke(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	f, err := s.shelf.callable(r.Context(), name)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	script := path + "/" + name + "/invoke"
	s.serve(w, cgi.Request{Request: r, Script: script, Path: strings.TrimPrefix(r.URL.Path, script)}, f, true)
}

// serve calls a function for a request, and answers with its reply once that is
// whole.
func (s *Service) serve(w http.ResponseWriter, r cgi.Request, f callable, onAPI bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		writeRefusal(w, err)
		return
	}
	r.Length, r.Software = len(body), s.Software
	variables, err := r.Variables()
	if err != nil {
		writeRefusal(w, err)
		return
	}
	outcome, err := s.call(r.Context(), f, TriggerHTTP, variables, body)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	reply, err := read(outcome.Output, f.Settings.Output)
	if err != nil {
		writeRefusal(w, err)
		return
	}
	send(w, reply, onAPI)
}

// read is an output as the settings say.
func read(output []byte, way string) (cgi.Reply, error) {
	if way != OutputPlain {
		reply, err := cgi.Parse(output)
		if err == nil || way == OutputCGI {
			return reply, err
		}
	}
	kind := "application/octet-stream"
	if utf8.Valid(output) {
		kind = "text/plain; charset=utf-8"
	}
	return cgi.Reply{Status: http.StatusOK, Header: http.Header{"Content-Type": {kind}}, Body: output}, nil
}

func send(w http.ResponseWriter, reply cgi.Reply, sandboxed bool) {
	h := w.Header()
	for name, values := range reply.Header {
		if !sandboxed || slices.Contains(onAPI, name) {
			h[name] = values
		}
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/octet-stream")
	}
	h.Set("X-Content-Type-Options", "nosniff")
	if sandboxed {
		h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	}
	if reply.Status != http.StatusNoContent && reply.Status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(reply.Body)))
	}
	w.WriteHeader(reply.Status)
	// A caller who is gone cannot be told.
	_, _ = w.Write(reply.Body)
}

func writeRefusal(w http.ResponseWriter, err error) {
	p := refusal(err)
	if p.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	p.Write(w)
}

// refusal says whose fault it is.
func refusal(err error) *problem.Problem {
	var said *problem.Problem
	var field *FieldError
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &said):
		return said
	case errors.As(err, &field):
		return problem.Of(http.StatusUnprocessableEntity, field.Error())
	case errors.As(err, &long):
		return problem.New(http.StatusRequestEntityTooLarge, "too-large", "the body has more than "+strconv.Itoa(MaxBodyBytes)+" bytes")
	case errors.Is(err, sandbox.ErrModule):
		return problem.New(http.StatusUnprocessableEntity, "module", "body: "+err.Error())
	case errors.Is(err, cgi.ErrTooLong):
		return problem.Of(http.StatusRequestHeaderFieldsTooLarge, err.Error())
	case errors.Is(err, cgi.ErrPath):
		return problem.Of(http.StatusBadRequest, err.Error())
	}
	for _, known := range refusals {
		if errors.Is(err, known.err) {
			return problem.New(known.status, known.code, err.Error())
		}
	}
	return problem.Of(http.StatusInternalServerError, "the functions failed: "+err.Error())
}

var refusals = []struct {
	err    error
	status int
	code   string
}{
	{ErrNotFound, http.StatusNotFound, "not-found"},
	{ErrVersion, http.StatusNotFound, "no-version"},
	{ErrSecret, http.StatusNotFound, "no-secret"},
	{ErrTooMany, http.StatusConflict, "too-many-functions"},
	{ErrQuota, http.StatusInsufficientStorage, "quota"},
	{ErrBusy, http.StatusTooManyRequests, "busy"},
	{sandbox.ErrTime, http.StatusGatewayTimeout, "function-slow"},
	{sandbox.ErrOutput, http.StatusBadGateway, "function-output"},
	{sandbox.ErrMemory, http.StatusBadGateway, "function-memory"},
	{sandbox.ErrFailed, http.StatusBadGateway, "function-failed"},
	{cgi.ErrReply, http.StatusBadGateway, "function-reply"},
	{store.ErrFull, http.StatusInsufficientStorage, "disk-full"},
}

// invokeRoute is of calls on the API's origin. They are counted apart, so that
// functions that take long keep nobody from managing them.
var invokeRoute = mount.Route{Scope: ScopeInvoke, BodyBytes: -1, Lasting: true, Encoded: true}
