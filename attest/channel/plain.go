package channel

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/toolshed-cloud/shed/attest"
)

// DialPlain connects as Dial does, on a connection that can be taken over once
// it was verified. Errors are Dial's.
func DialPlain(ctx context.Context, machine *url.URL) (*Conn, error) {
	if machine.Scheme != "https" || machine.Host == "" {
		return nil, fmt.Errorf("url %q: want https://host:port", machine)
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host := Authority(machine)
	dialed, err := (&tls.Dialer{Config: ClientConfigTrustingEvidenceAlone()}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", host, handshakeError(err))
	}
	conn := dialed.(*tls.Conn)
	ch, err := machineChannel(conn.ConnectionState())
	if err != nil {
		conn.Close() //nolint:errcheck // it is given up
		return nil, fmt.Errorf("connecting to %s: %w", host, err)
	}
	return &Conn{Channel: ch, host: host, http: newPlain(conn)}, nil
}

// ErrNotPlain says that the connection cannot be taken over: it is not
// DialPlain's, or the other side sent more than it was asked for.
var ErrNotPlain = errors.New("connection cannot be taken over")

// Take hands over the connection under c, which carries no request of c's from
// then on. The error is ErrNotPlain.
func (c *Conn) Take() (net.Conn, error) {
	p, ok := c.http.(*plain)
	if !ok || p.Available() == 0 || p.read.Buffered() > 0 {
		return nil, fmt.Errorf("%w: it has an answer that nobody read", ErrNotPlain)
	}
	return p.conn, nil
}

// plain carries requests on a connection that it reads no further than the
// answers go.
type plain struct {
	conn *tls.Conn
	// read reads the connection through head.
	read *bufio.Reader
	head *capped
	// body is the latest answer's, which has to end before the next request.
	body *endedBody
	over bool
}

func newPlain(conn *tls.Conn) *plain {
	head := &capped{r: conn, left: math.MaxInt64}
	return &plain{conn: conn, head: head, read: bufio.NewReader(head)}
}

// maxHead caps the status line and the header of an answer, in bytes: package
// http reads them without end, and whoever answers has proved nothing yet.
const maxHead = 64 << 10

// capped reads no more than what is left.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, fmt.Errorf("%w: the head of an answer has more than %d bytes", attest.ErrMalformed, maxHead)
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// RoundTrip sends one request. Cancelling it ends the connection.
func (p *plain) RoundTrip(req *http.Request) (*http.Response, error) {
	if p.Available() == 0 {
		return nil, net.ErrClosed
	}
	stop := context.AfterFunc(req.Context(), func() { p.conn.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // it is closed otherwise
	resp, err := p.exchange(req)
	if !stop() {
		err = errors.Join(err, context.Cause(req.Context()))
	}
	if err != nil {
		p.over = true
		return nil, err
	}
	p.body, p.over = &endedBody{ReadCloser: resp.Body}, resp.Close
	resp.Body = p.body
	return resp, nil
}

func (p *plain) exchange(req *http.Request) (*http.Response, error) {
	if err := req.Write(p.conn); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	p.head.left = maxHead
	resp, err := http.ReadResponse(p.read, req)
	p.head.left = math.MaxInt64
	return resp, err
}

func (p *plain) Available() int {
	if p.over || p.body != nil && !p.body.ended {
		return 0
	}
	return 1
}

func (p *plain) Close() error {
	p.over = true
	return p.conn.Close()
}

// endedBody notes that an answer was read to its end.
type endedBody struct {
	io.ReadCloser
	ended bool
}

func (b *endedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

func machineChannel(state tls.ConnectionState) (attest.Channel, error) {
	spki, err := PeerSPKI(state)
	if err != nil {
		return attest.Channel{}, err
	}
	return FromState(state, attest.RoleServe, spki)
}
