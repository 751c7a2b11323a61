package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// fnAPI is what the commands below ask; maxFnAnswer bounds an answer.
const (
	fnAPI       = "/api/functions"
	maxFnAnswer = 16 << 20
)

func newFnCommand(open fnOpener) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fn",
		Short: "the WebAssembly functions of your machine's toolshed",
		Long: `fn deploys, calls and looks after functions of the toolshed in your machine,
over a connection that is verified first. A function is a WASI command, compiled
for example with GOOS=wasip1 GOARCH=wasm go build.`,
	}
	cmd.AddCommand(newFnDeployCommand(open), newFnInvokeCommand(open), newFnLogsCommand(open), newFnListCommand(open), newFnRollbackCommand(open))
	return cmd
}

// fnOpener leads to the toolshed of a machine, until it is closed.
type fnOpener func(c *relyingParty, ctx context.Context, timeout time.Duration) (t toolshedAt, closeIt func(), err error)

// run opens the machine at the first argument and does one thing in time.
func (open fnOpener) run(flags *clientFlags, do func(context.Context, *cobra.Command, functions, []string) error) func(*cobra.Command, []string) error {
	return flags.run(func(c *relyingParty, ctx context.Context, cmd *cobra.Command) error {
		t, closeIt, err := open(c, ctx, flags.timeout)
		if err != nil {
			return err
		}
		defer closeIt()
		return do(ctx, cmd, functions{t}, cmd.Flags().Args()[1:])
	})
}

// functions asks about functions of a toolshed.
type functions struct{ toolshedAt }

// read is do for what is answered with JSON; into is nil for nothing.
func (f functions) read(ctx context.Context, method, below string, body []byte, header http.Header, into any) error {
	resp, err := f.do(ctx, method, fnAPI+below, bytes.NewReader(body), header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := readAnswer(resp)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// readAnswer reads an answer to its end.
func readAnswer(resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxFnAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	if len(b) > maxFnAnswer {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxFnAnswer)
	}
	return b, nil
}
