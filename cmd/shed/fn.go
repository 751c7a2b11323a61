package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// fnAPI is what the commands below ask; maxFnAnswer bounds an answer.
const (
	fnAPI        = "/api/functions"
	maxFnAnswer  = 16 << 20
	maxFnProblem = 64 << 10
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

// functionsAt asks a toolshed about functions.
type functionsAt struct {
	machine *url.URL
	by      http.RoundTripper
}

// fnOpener leads to the functions of the machine at a URL, until it is closed.
type fnOpener func(ctx context.Context, c *relyingParty, timeout time.Duration) (f functionsAt, close func(), err error)

// openFunctions is by the same verified connections as connect's.
func openFunctions(ctx context.Context, c *relyingParty, timeout time.Duration) (functionsAt, func(), error) {
	transport, err := c.transport(ctx, timeout)
	if err != nil {
		return functionsAt{}, nil, err
	}
	return functionsAt{machine: c.machine, by: transport}, transport.Close, nil
}

// run opens the machine at the first argument and does one thing in time.
func (open fnOpener) run(flags *clientFlags, do func(context.Context, *cobra.Command, functionsAt, []string) error) func(*cobra.Command, []string) error {
	return flags.run(func(c *relyingParty, ctx context.Context, cmd *cobra.Command) error {
		f, closeIt, err := open(ctx, c, flags.timeout)
		if err != nil {
			return err
		}
		defer closeIt()
		return do(ctx, cmd, f, cmd.Flags().Args()[1:])
	})
}

// fnAnswer is what came of a request.
type fnAnswer struct {
	status      int
	contentType string
	body        []byte
}

// ask sends a request about a function and answers what came of it, refusals
// too. The error is that the machine is refused or cannot be reached.
func (f functionsAt) ask(ctx context.Context, method, below string, body []byte, header http.Header) (fnAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+f.machine.Host+fnAPI+below, bytes.NewReader(body))
	if err != nil {
		return fnAnswer{}, cli.Usage(fmt.Errorf("asking for %s: %w", below, err))
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := f.by.RoundTrip(req)
	if err != nil {
		return fnAnswer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxFnAnswer+1))
	if err != nil {
		return fnAnswer{}, fmt.Errorf("reading the answer: %w", err)
	}
	if len(b) > maxFnAnswer {
		return fnAnswer{}, fmt.Errorf("the answer has more than %d bytes", maxFnAnswer)
	}
	return fnAnswer{resp.StatusCode, resp.Header.Get("Content-Type"), b}, nil
}

// read is ask for what is answered with JSON, where anything but success is a
// refusal.
func (f functionsAt) read(ctx context.Context, method, below string, body []byte, header http.Header, into any) error {
	answer, err := f.ask(ctx, method, below, body, header)
	if err != nil {
		return err
	}
	if answer.status >= http.StatusMultipleChoices {
		return fnRefusal(answer)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer.body, into); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// fnRefusal is a problem document as an error, with the exit status that it
// means.
func fnRefusal(a fnAnswer) error {
	var p struct{ Detail string }
	if len(a.body) > maxFnProblem || json.Unmarshal(a.body, &p) != nil || p.Detail == "" {
		p.Detail = http.StatusText(a.status)
	}
	err := fmt.Errorf("the machine answers %d: %s", a.status, p.Detail)
	switch a.status {
	case http.StatusNotFound:
		return cli.NotFound(err)
	case http.StatusUnauthorized, http.StatusForbidden:
		return cli.Refused(err)
	case http.StatusGatewayTimeout:
		return cli.Hinted(err, "a function's settings say how long it may take")
	}
	return err
}
