package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

// The exit codes of shed; rootLong explains them to people.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitNotFound
	exitRefused
	exitUnreachable
	exitTimedOut
)

// failure is an error that knows its exit code and perhaps a hint.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func usage(err error) error    { return &failure{code: exitUsage, err: err} }
func notFound(err error) error { return &failure{code: exitNotFound, err: err} }
func refused(err error) error  { return &failure{code: exitRefused, err: err} }

// hinted adds a line that says what to do; the exit code stays err's own.
func hinted(err error, format string, args ...any) error {
	return &failure{code: exitCode(err), err: err, hint: fmt.Sprintf(format, args...)}
}

func exitCode(err error) int {
	var known *failure
	var netErr net.Error
	var opErr *net.OpError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &known):
		return known.code
	case errors.Is(err, attest.ErrRefused):
		return exitRefused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return exitTimedOut
	case errors.As(err, &opErr):
		return exitUnreachable
	case isUsage(err):
		return exitUsage
	default:
		return exitFailed
	}
}

// isUsage recognises cobra's own complaints about commands and arguments,
// which it makes without a type.
func isUsage(err error) bool {
	text := err.Error()
	for _, prefix := range []string{"unknown command", "accepts ", "requires at least", "required flag"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

// report writes err for a person, hint last, and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(w, "shed: %v\n", err)
	var known *failure
	if errors.As(err, &known) && known.hint != "" {
		fmt.Fprintf(w, "hint: %s\n", known.hint)
	}
	return exitCode(err)
}
