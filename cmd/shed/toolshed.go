package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// maxProblem bounds what is read of a refusal.
const maxProblem = 64 << 10

// toolshedAt asks the toolshed of a machine.
type toolshedAt struct {
	machine *url.URL
	by      http.RoundTripper
}

// toolshed is by the same verified connections as connect's, until it is closed.
func (c *relyingParty) toolshed(ctx context.Context, timeout time.Duration) (t toolshedAt, closeIt func(), err error) {
	transport, err := c.transport(ctx, timeout)
	if err != nil {
		return toolshedAt{}, nil, err
	}
	return toolshedAt{machine: c.machine, by: transport}, transport.Close, nil
}

// ask sends a request and answers what came of it, refusals too. The error is
// that the machine is refused or cannot be reached.
func (t toolshedAt) ask(ctx context.Context, method, target string, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+t.machine.Host+target, body)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("asking for %s: %w", target, err))
	}
	for name, values := range header {
		req.Header[name] = values
	}
	return t.by.RoundTrip(req)
}

// do is ask where anything but success is an error.
func (t toolshedAt) do(ctx context.Context, method, target string, body io.Reader, header http.Header) (*http.Response, error) {
	resp, err := t.ask(ctx, method, target, body, header)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, refusalOf(resp)
	}
	return resp, nil
}

// refusalOf is what a toolshed says that did not do it, with the exit status
// that it means.
func refusalOf(resp *http.Response) error {
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err != nil {
		return fmt.Errorf("reading the toolshed's answer: %w", err)
	}
	detail := http.StatusText(resp.StatusCode)
	if p, err := problem.Parse(resp.StatusCode, said); err == nil && p.Detail != "" {
		detail = p.Detail
	}
	err = fmt.Errorf("the toolshed answers %d: %.1000s", resp.StatusCode, detail)
	switch resp.StatusCode {
	case http.StatusNotFound:
		return cli.NotFound(err)
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict:
		return cli.Refused(err)
	}
	return err
}
