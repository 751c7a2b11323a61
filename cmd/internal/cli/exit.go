package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/toolshed-cloud/shed/attest"
)

// The exit codes; ExitCodes explains them to people.
const (
	ExitDone = iota
	ExitFailed
	ExitUsage
	ExitNotFound
	ExitRefused
	ExitUnreachable
	ExitTimedOut
)

// ExitCodes is the end of each program's help.
const ExitCodes = `Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  not found
  4  refused: a proof, a permission or a policy
  5  the other side cannot be reached
  6  timed out

With --json an error is one object on the last line of standard error:
  {"error": TEXT, "hint": TEXT (where there is one), "exit_code": NUMBER}`

// failure is an error that knows its exit code and perhaps a hint.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Failed is an error with the exit code for that, whatever it was on the way.
func Failed(err error) error { return &failure{code: ExitFailed, err: err} }

// Usage is an error with the exit code for that.
func Usage(err error) error { return &failure{code: ExitUsage, err: err} }

// NotFound is an error with the exit code for that.
func NotFound(err error) error { return &failure{code: ExitNotFound, err: err} }

// Refused is an error with the exit code for that.
func Refused(err error) error { return &failure{code: ExitRefused, err: err} }

// Unreachable is an error with the exit code for that.
func Unreachable(err error) error { return &failure{code: ExitUnreachable, err: err} }

// Hinted adds a line that says what to do; the exit code stays err's own.
func Hinted(err error, format string, args ...any) error {
	return &failure{code: ExitCode(err), err: err, hint: fmt.Sprintf(format, args...)}
}

// ExitCode is an error's exit code.
func ExitCode(err error) int {
	var known *failure
	var netErr net.Error
	var opErr *net.OpError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &known):
		return known.code
	case errors.Is(err, attest.ErrRefused):
		return ExitRefused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return ExitTimedOut
	case errors.As(err, &opErr) && opErr.Op != "listen":
		// A port of this machine's that is taken is nobody's absence.
		return ExitUnreachable
	default:
		return ExitFailed
	}
}

// Report writes err for a person, hint last, or for a program, and returns the
// exit code.
func Report(w io.Writer, err error, asJSON bool) int {
	if err == nil {
		return ExitDone
	}
	code, hint := ExitCode(err), ""
	if known, ok := errors.AsType[*failure](err); ok {
		hint = known.hint
	}
	if asJSON {
		// Where standard error is gone, the exit code says it alone.
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		_ = e.Encode(struct {
			Error    string `json:"error"`
			Hint     string `json:"hint,omitempty"`
			ExitCode int    `json:"exit_code"`
		}{err.Error(), hint, code})
		return code
	}
	// A machine, a control plane or a file may have had a say in the text.
	w = &harmless{w: w}
	fmt.Fprintf(w, "shed: %v\n", err)
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
	return code
}
