// Package connlimit bounds the connections of a listener: in all, and from one
// source.
//
// Invariants: what is accepted is counted until it is closed, once; a source
// over its bound is closed at once and takes nothing from others; at the bound
// in all, further connections wait in the kernel's queue. Both bounds must be
// below the process's limit of open files, or the process ends up refusing
// itself.
package connlimit

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/netutil"
)

// Listen bounds l to total connections, perSource of them from one source: an
// IPv4 address, or an IPv6 network of 64 bits, which is what one customer of a
// network usually has (RFC 6177, section 2). A source that is no IP address
// is not bounded by itself.
func Listen(l net.Listener, total, perSource int) net.Listener {
	return &listener{Listener: netutil.LimitListener(l, total), perSource: perSource, open: make(map[netip.Prefix]int)}
}

type listener struct {
	net.Listener
	perSource int
	// mu guards open.
	mu   sync.Mutex
	open map[netip.Prefix]int
}

// Accept returns the next connection whose source is within its bound.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source, ok := sourceOf(c.RemoteAddr())
		if !ok {
			return c, nil
		}
		if l.enter(source) {
			return &conn{Conn: c, leave: sync.OnceFunc(func() { l.leave(source) })}, nil
		}
		c.Close() //nolint:errcheck // it is not wanted
	}
}

func sourceOf(address net.Addr) (netip.Prefix, bool) {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}, false
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	source, err := ip.Prefix(bits)
	return source, err == nil
}

func (l *listener) enter(source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source] >= l.perSource {
		return false
	}
	l.open[source]++
	return true
}

func (l *listener) leave(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source]--; l.open[source] == 0 {
		delete(l.open, source)
	}
}

type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.leave()
	return err
}
