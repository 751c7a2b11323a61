package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// Conn is a client's one connection to a machine. It never reconnects: once
// closed, every request fails, and a new Conn has to be verified anew.
type Conn struct {
	// Channel is what evidence on this connection must be bound to.
	Channel attest.Channel
	http    carrier
	host    string
}

var _ http.RoundTripper = (*Conn)(nil)

// carrier is one connection that carries one request after another.
type carrier interface {
	http.RoundTripper
	// Available is how many requests it can carry now, zero or one.
	Available() int
	Close() error
}

var (
	_ carrier = (*http.ClientConn)(nil)
	_ carrier = (*plain)(nil)
)

// dialTimeout bounds connecting and the handshake together: with user-mode
// networking a port can accept long before anything listens behind it.
const dialTimeout = 10 * time.Second

// Dial connects to the machine at an https URL as its client and completes the
// handshake. Nothing about the machine is established by that. Errors are
// attest.ErrBinding where the other side speaks no TLS 1.3, or the network's.
func Dial(ctx context.Context, machine *url.URL) (*Conn, error) {
	if machine.Scheme != "https" || machine.Host == "" {
		return nil, fmt.Errorf("url %q: want https://host:port", machine)
	}
	return dial(ctx, Authority(machine), ClientConfigTrustingEvidenceAlone(), machineChannel)
}

// DialEnrol connects a machine to its control plane: the machine shows
// certificate, whose key is spki, and accepts only the pinned key. Errors are
// as Dial's, and attest.ErrBinding for another key.
func DialEnrol(ctx context.Context, host string, certificate tls.Certificate, spki []byte, pin attest.Digest) (*Conn, error) {
	config := ClientConfigTrustingEvidenceAlone()
	config.Certificates = []tls.Certificate{certificate}
	config.VerifyConnection = PinSPKI(pin)
	return dial(ctx, host, config, func(state tls.ConnectionState) (attest.Channel, error) {
		return FromState(state, attest.RoleEnrol, spki)
	})
}

func dial(ctx context.Context, host string, config *tls.Config, derive func(tls.ConnectionState) (attest.Channel, error)) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var state tls.ConnectionState
	transport := &http.Transport{
		DisableCompression: true,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
			if err == nil {
				state = conn.(*tls.Conn).ConnectionState()
			}
			return conn, err
		},
	}
	conn, err := transport.NewClientConn(ctx, "https", host)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", host, handshakeError(err))
	}
	ch, err := derive(state)
	if err != nil {
		conn.Close() //nolint:errcheck // it is given up
		return nil, fmt.Errorf("connecting to %s: %w", host, err)
	}
	return &Conn{Channel: ch, http: conn, host: host}, nil
}

// URL is the machine's.
func (c *Conn) URL() string { return "https://" + c.host }

// Authority is the host and port of a machine's URL, 443 where it names none.
func Authority(machine *url.URL) string {
	if machine.Port() == "" {
		return net.JoinHostPort(machine.Hostname(), "443")
	}
	return machine.Host
}

// handshakeError tells a peer that speaks another protocol, which is a
// refusal, from one that is not there. A TLS alert reaches us as an operation
// of crypto/tls's own on the network.
func handshakeError(err error) error {
	var record tls.RecordHeaderError
	var operation *net.OpError
	var network net.Error
	switch {
	case errors.As(err, &record),
		errors.As(err, &operation) && (operation.Op == "remote error" || operation.Op == "local error"):
		return fmt.Errorf("%w: the other side speaks no tls 1.3: %w", attest.ErrBinding, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// So does a forwarded port behind which nothing listens yet.
		return &net.OpError{Op: "handshake", Net: "tcp", Err: err}
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, attest.ErrRefused):
		return err
	default:
		return fmt.Errorf("%w: %w", attest.ErrBinding, err)
	}
}

// RoundTrip sends one request on this connection. Errors are the network's.
func (c *Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	return c.http.RoundTrip(req)
}

// Free reports whether the connection can carry a request now: it is open, and
// the answer before was read to its end and did not announce the connection's.
func (c *Conn) Free() bool { return c.http.Available() > 0 }

// Close closes the connection.
func (c *Conn) Close() error { return c.http.Close() }

// Call sends one request to the machine, with a body unless that is nil, and
// returns the body of a 2xx answer, at most limit bytes. Another status is a
// *StatusError, a longer body attest.ErrMalformed.
func (c *Conn) Call(ctx context.Context, method, target, contentType string, body []byte, limit int64) ([]byte, error) {
	req, err := c.Request(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	return c.Do(req, limit)
}

// Request makes a request for Do. Errors are http.NewRequest's.
func (c *Conn) Request(ctx context.Context, method, target string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.host+target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("making request: %w", err)
	}
	return req, nil
}

// Do sends a request and answers as Call does. Errors are as Call's.
func (c *Conn) Do(req *http.Request, limit int64) ([]byte, error) {
	resp, err := c.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	b, err := readAll(resp, limit)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%w: %s answered more than %d bytes", attest.ErrMalformed, req.URL.Path, limit)
	case resp.StatusCode/100 != 2:
		return nil, &StatusError{
			Code: resp.StatusCode, Path: req.URL.Path, RetryAfter: retryAfter(resp.Header), Body: b,
		}
	}
	return b, nil
}

// readAll reads a body, or one byte more than limit of it. One that says how long it
// is gets room for that at once.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	if resp.ContentLength < 0 || resp.ContentLength > limit {
		return io.ReadAll(io.LimitReader(resp.Body, limit+1))
	}
	b := make([]byte, resp.ContentLength)
	_, err := io.ReadFull(resp.Body, b)
	return b, err
}

// StatusError is an answer other than 2xx.
type StatusError struct {
	Code int
	Path string
	// RetryAfter is how long the other side asks to be left alone; zero where
	// it does not say.
	RetryAfter time.Duration
	// Body is the answer's beginning, perhaps a problem document (RFC 9457).
	Body []byte
}

// retryAfter reads seconds (RFC 9110, section 10.2.3); machines send no dates.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.Path, e.Code, http.StatusText(e.Code))
}
