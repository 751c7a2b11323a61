// Package imds reads a machine's user data from EC2's instance metadata service,
// version 2.
//
// Invariants: one address is asked, by a session token, and no redirect or proxy
// is followed; what is answered is capped before it is kept, and is not looked
// into here; a try has a deadline and so have all of them together; an answer
// that cannot change is not asked for again.
package imds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/toolshed-cloud/shed/attest/backoff"
)

// The service as EC2 documents it:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
const (
	// Base is where every instance has it.
	Base         = "http://169.254.169.254"
	tokenPath    = "/latest/api/token"
	userDataPath = "/latest/user-data"
	// tokenTTL is in seconds: a token is used once.
	tokenTTL       = "60"
	tokenTTLHeader = "X-aws-ec2-metadata-token-ttl-seconds"
	tokenHeader    = "X-aws-ec2-metadata-token"
)

const (
	// maxToken caps a token, which has 56 characters.
	maxToken = 1 << 10
	// tryTimeout is for one question with its answer.
	tryTimeout   = 2 * time.Second
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 5 * time.Second
)

// ErrUserData says that the service answers, and has no user data to use.
var ErrUserData = errors.New("instance has no usable user data")

// Client asks the service.
type Client struct {
	// Base is the service's address, as a rule the constant of that name.
	Base string
	// Transport reaches it.
	Transport http.RoundTripper
	// Report hears of tries that failed.
	Report func(error)
}

// Transport reaches the service itself: there is no proxy to it, and it is asked
// too seldom to keep a connection.
func Transport() http.RoundTripper {
	return &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 8 << 10}
}

// UserData asks until there is an answer or ctx ends. The error is ErrUserData
// where the answer is none of 1 to limit bytes, otherwise ctx's with the last
// try's.
func (c *Client) UserData(ctx context.Context, limit int) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		data, err := c.try(ctx, limit)
		if err == nil || errors.Is(err, ErrUserData) {
			return data, err
		}
		c.Report(err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("reading user data: %w: %w", ctx.Err(), err)
		case <-time.After(backoff.Pause(attempt, firstBackoff, lastBackoff)):
		}
	}
}

func (c *Client) try(ctx context.Context, limit int) ([]byte, error) {
	token, err := c.ask(ctx, http.MethodPut, tokenPath, tokenTTLHeader, tokenTTL, maxToken)
	if err != nil {
		return nil, fmt.Errorf("asking for a metadata token: %w", err)
	}
	data, err := c.ask(ctx, http.MethodGet, userDataPath, tokenHeader, string(token), limit)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		return nil, fmt.Errorf("%w: there is none", ErrUserData)
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrUserData, limit)
	case err != nil:
		return nil, fmt.Errorf("asking for user data: %w", err)
	case len(data) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrUserData)
	}
	return data, nil
}

// statusError is an answer that is not what was asked for.
type statusError struct{ code int }

func (e *statusError) Error() string {
	return fmt.Sprintf("the metadata service answered %d %s", e.code, http.StatusText(e.code))
}

var errTooLong = errors.New("the answer is too long")

// ask sends one request with one header and answers the body of a 200.
func (c *Client) ask(ctx context.Context, method, path, header, value string, limit int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set(header, value)
	// A round trip follows no redirect.
	resp, err := c.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was read
	if resp.StatusCode != http.StatusOK {
		return nil, &statusError{resp.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(body) > limit {
		return nil, errTooLong
	}
	return body, nil
}
