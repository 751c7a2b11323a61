package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// retryAfter is how many seconds a caller of the local proxy is asked to leave
// a busy machine alone.
const retryAfter = "1"

// patient gives a request up where no verified connection was to be had in
// time. From the moment that it is sent it may take as long as it likes.
type patient struct {
	next    http.RoundTripper
	timeout time.Duration
}

var _ http.RoundTripper = patient{}

// RoundTrip is next's; the error is client.ErrBusy where the time was up.
func (p patient) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(p.timeout, func() { cancel(client.ErrBusy) })
	defer timer.Stop()
	// Of all that goes over a connection, requests alone bear the token.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaderField: func(key string, _ []string) {
		if key == ownership.Header {
			timer.Stop()
		}
	}})
	resp, err := p.next.RoundTrip(req.WithContext(ctx))
	if err != nil && errors.Is(context.Cause(ctx), client.ErrBusy) && !errors.Is(err, client.ErrBusy) {
		err = fmt.Errorf("%w: no connection to it was free within %s: %w", client.ErrBusy, p.timeout, err)
	}
	return resp, err
}

// problemOf is what a request that the machine did not answer is answered with.
// Being busy is never said as being refused.
func problemOf(err error) (status int, code string) {
	switch {
	case errors.Is(err, client.ErrBusy):
		return http.StatusServiceUnavailable, "machine-busy"
	case errors.Is(err, attest.ErrRefused):
		return http.StatusForbidden, "machine-refused"
	case cli.ExitCode(err) == cli.ExitTimedOut:
		return http.StatusGatewayTimeout, "machine-timed-out"
	}
	return http.StatusBadGateway, "machine-unreachable"
}
