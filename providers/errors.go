package providers

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies a provider's refusal; what the control plane does next
// depends on nothing else.
type Code string

// The codes of the contract.
const (
	CodeInvalid         Code = "INVALID"
	CodeUnauthenticated Code = "UNAUTHENTICATED"
	CodeDenied          Code = "DENIED"
	CodeNotFound        Code = "NOT_FOUND"
	CodeConflict        Code = "CONFLICT"
	CodeAborted         Code = "ABORTED"
	CodeQuota           Code = "QUOTA"
	// CodeCapacity says to try the next place.
	CodeCapacity  Code = "CAPACITY"
	CodeThrottled Code = "THROTTLED"
	// CodeUnavailable says that nothing was done.
	CodeUnavailable Code = "UNAVAILABLE"
	// CodeOutcomeUnknown says that it may have been done: Get before another
	// Create.
	CodeOutcomeUnknown Code = "OUTCOME_UNKNOWN"
	CodeUnimplemented  Code = "UNIMPLEMENTED"
	CodeInternal       Code = "INTERNAL"
)

// Scope says how far an error reaches: what else would meet the same one.
type Scope string

// The scopes. An error without one is about its machine.
const (
	ScopeMachine Scope = "machine"
	ScopeRegion  Scope = "region"
	ScopeAccount Scope = "account"
)

// Error is what every call of the contract returns on failure.
type Error struct {
	Code  Code
	Scope Scope
	// Message says what was being done and what went wrong, lower case.
	Message string
	// RequestID is the cloud's own name for the request that it refused, for
	// its support; empty where there was none.
	RequestID string
	// Hint says what an operator can change, such as the permission that is
	// missing; empty where nothing is known.
	Hint string
	// RetryAfter is set with CodeThrottled.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	if e.RequestID == "" {
		return fmt.Sprintf("%s: %s", e.Code, e.Message)
	}
	return fmt.Sprintf("%s: %s (request %s)", e.Code, e.Message, e.RequestID)
}

// In is the error with a scope.
func (e *Error) In(scope Scope) *Error {
	e.Scope = scope
	return e
}

// Is matches another *Error by code alone, so that errors.Is(err,
// &Error{Code: CodeNotFound}) works through wrapping.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// Errorf makes an error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code that err carries. An error without one is
// CodeInternal; nil has none.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// HintOf returns what an operator can change, as far as err says.
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

// Explain is err with its hint, for people.
func Explain(err error) string {
	if hint := HintOf(err); hint != "" {
		return fmt.Sprintf("%v (%s)", err, hint)
	}
	return err.Error()
}

// ScopeOf returns the scope that err carries: ScopeMachine where it has none.
func ScopeOf(err error) Scope {
	var e *Error
	if errors.As(err, &e) && e.Scope != "" {
		return e.Scope
	}
	return ScopeMachine
}
