package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
)

// Dialer opens connections to one machine, each verified before its caller can
// send a byte. DialTLSContext fits http.Transport and whatever else takes a
// connection.
type Dialer struct {
	Trust   Trust
	Machine *url.URL
	// Pin is what was accepted of the machine before; nil for a first contact.
	Pin *Pin
	// Lifetime is how long a verification is trusted: the connection ends then,
	// also in the midst of a request.
	Lifetime time.Duration
}

// ErrExpired says that the verification of a connection is no longer trusted.
var ErrExpired = errors.New("the machine's verification has expired")

// DialTLSContext connects to the machine and verifies it on that connection.
// address must be the machine's own: a connection verified for one is never
// used for another. Errors are Trust.Connect's, and attest.ErrPolicy.
func (d *Dialer) DialTLSContext(ctx context.Context, _, address string) (net.Conn, error) {
	if d.Lifetime <= 0 {
		return nil, fmt.Errorf("%w: no lifetime of a verification", attest.ErrPolicy)
	}
	if host := channel.Authority(d.Machine); address != host {
		return nil, fmt.Errorf("%w: %s is asked for, and %s is the machine's address", attest.ErrPolicy, address, host)
	}
	conn, err := channel.DialPlain(ctx, d.Machine)
	if err != nil {
		return nil, err
	}
	s, err := d.Trust.over(ctx, conn, d.Pin)
	if err != nil {
		return nil, err
	}
	taken, err := conn.Take()
	if err != nil {
		conn.Close()
		return nil, err
	}
	return d.expiring(taken, s), nil
}

func (d *Dialer) expiring(conn net.Conn, s *Session) net.Conn {
	c := &expiring{Conn: conn, left: func() time.Duration { return d.Lifetime - age(d.Trust.Now(), s.VerifiedAt) }}
	// What waits to be read or written ends too.
	c.timer = time.AfterFunc(c.left(), func() { conn.Close() }) //nolint:errcheck // it is given up
	return c
}

// expiring is a verified connection that ends with its verification.
type expiring struct {
	net.Conn
	// left is how long it is still trusted.
	left  func() time.Duration
	timer *time.Timer
	once  sync.Once
}

func (c *expiring) Read(b []byte) (int, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	return n, c.explain(err)
}

func (c *expiring) Write(b []byte) (int, error) {
	if err := c.check(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	return n, c.explain(err)
}

func (c *expiring) check() error {
	if c.left() > 0 {
		return nil
	}
	return errors.Join(ErrExpired, c.Close())
}

// explain tells a connection that expired from one that was lost.
func (c *expiring) explain(err error) error {
	if errors.Is(err, net.ErrClosed) && c.left() <= 0 {
		return ErrExpired
	}
	return err
}

func (c *expiring) Close() (err error) {
	c.once.Do(func() {
		c.timer.Stop()
		err = c.Conn.Close()
	})
	return err
}
