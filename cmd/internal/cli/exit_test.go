package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// The exit code says what kind of failure it was, however deep that is.
func TestExitCode(t *testing.T) {
	plain := errors.New("plain")
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"none":                    {nil, ExitDone},
		"plain":                   {plain, ExitFailed},
		"usage":                   {fmt.Errorf("flags: %w", Usage(plain)), ExitUsage},
		"not found":               {NotFound(plain), ExitNotFound},
		"refused":                 {Refused(plain), ExitRefused},
		"refused by proof":        {fmt.Errorf("verifying: %w", attest.ErrBinding), ExitRefused},
		"unreachable":             {Unreachable(plain), ExitUnreachable},
		"nobody listens":          {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, ExitUnreachable},
		"a port that is taken":    {fmt.Errorf("listening: %w", &net.OpError{Op: "listen", Err: syscall.EADDRINUSE}), ExitFailed},
		"a deadline":              {fmt.Errorf("waiting: %w", context.DeadlineExceeded), ExitTimedOut},
		"the network's deadline":  {&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, ExitTimedOut},
		"refused beats a timeout": {errors.Join(attest.ErrBinding, context.DeadlineExceeded), ExitRefused},
		"hinted":                  {Hinted(NotFound(plain), "look there"), ExitNotFound},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// What others wrote into an error commands no terminal.
func TestErrorsCommandNoTerminal(t *testing.T) {
	evil := errors.New("it says \x1b]0;title\x07 \x1b[2J\u009b1A\x7f and more")
	var b bytes.Buffer
	if code := Report(&b, Hinted(Refused(evil), "hint\x1b[2J"), false); code != ExitRefused {
		t.Errorf("exit code %d", code)
	}
	if bytes.ContainsAny(b.Bytes(), "\x1b\x07\x7f") || bytes.Contains(b.Bytes(), []byte("\u009b")) {
		t.Errorf("%q", b.String())
	}
}
