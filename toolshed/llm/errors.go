package llm

import (
	"errors"
	"fmt"
	"time"
)

// Kind is what is wrong with a provider.
type Kind string

// The kinds.
const (
	// KindUnreachable: no connection, or it was lost before an answer.
	KindUnreachable Kind = "unreachable"
	// KindSlow: the time was over.
	KindSlow Kind = "slow"
	// KindLimited: it wants fewer requests.
	KindLimited Kind = "rate-limited"
	// KindDenied: it does not accept the key that is configured.
	KindDenied Kind = "denied"
	// KindFailed: it says that it failed.
	KindFailed Kind = "failed"
	// KindBroken: its answer is not what the protocol has, or not what it says.
	KindBroken Kind = "broken"
)

// UpstreamError is a provider that did not answer as it should.
type UpstreamError struct {
	// Provider is its configured name, where that is known.
	Provider string
	Kind     Kind
	// Status is its HTTP status, zero without an answer.
	Status     int
	RetryAfter time.Duration
	Err        error
}

func (e *UpstreamError) Error() string {
	name := "the provider"
	if e.Provider != "" {
		name = "provider " + e.Provider
	}
	text := fmt.Sprintf("%s is %s", name, e.Kind)
	if e.Kind == KindFailed {
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
func (e *UpstreamError) Unwrap() error { return e.Err }

// again reports whether another try, or another provider, may do better.
func (e *UpstreamError) again() bool { return e.Kind != KindBroken && e.Kind != KindDenied }

func broken(format string, args ...any) error {
	return &UpstreamError{Kind: KindBroken, Err: fmt.Errorf(format, args...)}
}

// RequestError is a request that the provider refuses, or would.
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

// ErrNoModel says that no provider is configured for a model.
var ErrNoModel = errors.New("no such model")

// OfStatus is the error for a provider's HTTP status other than 2xx: retryAfter
// is its header, text what it says.
func OfStatus(status int, retryAfter time.Duration, text string) error {
	err := errors.New(text)
	u := &UpstreamError{Kind: KindFailed, Status: status, RetryAfter: retryAfter, Err: err}
	switch status {
	case 400, 404, 413, 422:
		return &RequestError{Err: fmt.Errorf("the provider refuses the request (status %d): %w", status, err)}
	case 401, 403:
		u.Kind = KindDenied
	case 408, 504:
		u.Kind = KindSlow
	case 429:
		u.Kind = KindLimited
	}
	return u
}
