// Package upstream says what is wrong with a server that the toolshed asks for
// its owner, and whose fault it is.
//
// Invariants: kinds are told apart by what happened and never by a text; what a
// server says goes to the caller, bounded, and into no log; a request that the
// server refuses is the caller's, everything else the server's.
package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// Kind is what is wrong with a server.
type Kind string

// The kinds.
const (
	// Unreachable: no connection, or it was lost before an answer.
	Unreachable Kind = "unreachable"
	// Slow: the time was over.
	Slow Kind = "slow"
	// Limited: it wants fewer requests.
	Limited Kind = "rate-limited"
	// Denied: it does not accept the key that is configured.
	Denied Kind = "denied"
	// Failed: it says that it failed.
	Failed Kind = "failed"
	// Broken: its answer is not what the protocol has, or not what it says.
	Broken Kind = "broken"
)

// Error is a server that did not answer as it should.
type Error struct {
	// Name is the server's in the configuration, where that is known.
	Name string
	Kind Kind
	// Status is its HTTP status, zero without an answer.
	Status     int
	RetryAfter time.Duration
	Err        error
}

func (e *Error) Error() string {
	name := "the provider"
	if e.Name != "" {
		name = "provider " + e.Name
	}
	text := fmt.Sprintf("%s is %s", name, e.Kind)
	if e.Kind == Failed {
		text = name + " failed"
	}
	if e.Status != 0 {
		text += fmt.Sprintf(" (status %d)", e.Status)
	}
	if e.Err != nil {
		text += fmt.Sprintf(": %.300s", e.Err)
	}
	return text
}

// Unwrap is what it came from.
func (e *Error) Unwrap() error { return e.Err }

// Again reports whether another try, or another server, may do better.
func (e *Error) Again() bool { return e.Kind != Broken && e.Kind != Denied }

// RequestError is a request that the server refuses, or would.
type RequestError struct {
	// Field names the part of the request, where that is known.
	Field string
	Err   error
}

func (e *RequestError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return e.Field + ": " + e.Err.Error()
}

// Unwrap is what it came from.
func (e *RequestError) Unwrap() error { return e.Err }

// Refuse is a *RequestError.
func Refuse(field, format string, args ...any) error {
	return &RequestError{Field: field, Err: fmt.Errorf(format, args...)}
}

// Breaks is an *Error of a server that does not keep to its protocol.
func Breaks(format string, args ...any) error {
	return &Error{Kind: Broken, Err: fmt.Errorf(format, args...)}
}

// Lost is the error for a connection that failed: ctx's, or an *Error.
func Lost(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Kind: Slow, Err: err}
	}
	return &Error{Kind: Unreachable, Err: err}
}

// maxSaid bounds the text of a refusal.
const maxSaid = 16 << 10

// Refused is the error for an answer other than 200, of which it reads the
// rest: an *Error, or a *RequestError.
func Refused(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxSaid)) //nolint:errcheck // what came of it is what there is
	said := errors.New(message(body))
	e := &Error{Kind: Failed, Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header), Err: said}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity:
		return Refuse("", "the provider refuses the request (status %d): %w", resp.StatusCode, said)
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Kind = Denied
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		e.Kind = Slow
	case http.StatusTooManyRequests:
		e.Kind = Limited
	}
	return e
}

// message is what a refusal says: many have it in the same place.
func message(body []byte) string {
	var said struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(body, &said) == nil && said.Error.Message != "" {
		return said.Error.Message
	}
	return string(bytes.ToValidUTF8(bytes.TrimSpace(body), nil))
}

// retryAfter is in seconds (RFC 9110, section 10.2.3); a date is not read.
func retryAfter(h http.Header) time.Duration {
	const most = 3600
	seconds, err := strconv.ParseFloat(h.Get("Retry-After"), 64)
	if err != nil || !(seconds > 0 && seconds <= most) {
		return 0
	}
	return time.Duration(seconds * float64(time.Second))
}

// Exchange sends a request and reads the whole answer, at most so many bytes.
// Errors are an *Error, a *RequestError, and ctx's.
func Exchange(client interface {
	Do(*http.Request) (*http.Response, error)
}, req *http.Request, most int64) ([]byte, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, Lost(req.Context(), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, Refused(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, Lost(req.Context(), err)
	case int64(len(b)) > most:
		return nil, Breaks("its answer has more than %d bytes", most)
	}
	return b, nil
}

// ProblemOf is the document for an *Error or a *RequestError; nil for another.
// The code of the server's faults begins with what it is called.
func ProblemOf(err error, called string) *problem.Problem {
	var request *RequestError
	var e *Error
	switch {
	case errors.As(err, &request):
		return problem.Of(http.StatusUnprocessableEntity, request.Error())
	case errors.As(err, &e):
		status := http.StatusBadGateway
		switch e.Kind {
		case Limited:
			status = http.StatusServiceUnavailable
		case Slow:
			status = http.StatusGatewayTimeout
		}
		return problem.New(status, called+"-"+string(e.Kind), e.Error())
	}
	return nil
}

// RetryAfter is the header's value for an error, empty for none.
func RetryAfter(err error) string {
	var e *Error
	if !errors.As(err, &e) || e.RetryAfter <= 0 {
		return ""
	}
	return strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds())))
}

// Answer is ProblemOf with the time to wait; nil for another error.
func Answer(err error, called string) error {
	p := ProblemOf(err, called)
	if p == nil {
		return nil
	}
	if after := RetryAfter(err); after != "" {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {after}})
	}
	return p
}
