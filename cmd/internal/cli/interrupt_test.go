package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest"
)

// errSignal stands in for the cause that a signal gives.
var errSignal = errors.New("interrupt signal received")

// What breaks in a command that is interrupted is told after that; what it
// had found out is.
func TestInterrupted(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
		says string
	}{
		"given up":          {context.Canceled, ExitFailed, "shed: interrupted\n"},
		"ended in between":  {errors.New("unexpected EOF"), ExitFailed, "shed: interrupted: unexpected EOF\n"},
		"its cause told":    {fmt.Errorf("fetching: %w", errSignal), ExitFailed, "shed: interrupted\n"},
		"a call given up":   {&net.OpError{Op: "dial", Err: context.Canceled}, ExitFailed, "shed: interrupted\n"},
		"refused before":    {attest.ErrBinding, ExitRefused, "shed: " + attest.ErrBinding.Error() + "\n"},
		"done all the same": {nil, ExitDone, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancelCause(t.Context())
			root := NewRoot("test")
			root.AddCommand(&cobra.Command{Use: "work", RunE: func(*cobra.Command, []string) error {
				interrupt(errSignal)
				return c.err
			}})
			var out, complaint bytes.Buffer
			if code := Run(ctx, root, []string{"work"}, &out, &complaint); code != c.code || complaint.String() != c.says {
				t.Errorf("exit code %d, %q; want %d, %q", code, complaint.String(), c.code, c.says)
			}
		})
	}
}
