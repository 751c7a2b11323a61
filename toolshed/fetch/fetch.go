// Package fetch is the one way out of the toolshed by HTTP.
//
// Invariants: the address that is judged is the one that is dialled, for every
// connection and so for every redirect; only public addresses and what the
// configuration allows are reached; redirects, time and bytes are bounded; no
// proxy of the environment's is used, which would dial by itself.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// The sentinels of fetching.
var (
	// ErrForbidden says that an address is neither public nor allowed.
	ErrForbidden = errors.New("this address is not for fetching")
	// ErrTooLong says that an answer has more bytes than the caller takes.
	ErrTooLong = errors.New("the answer is too long")
	// ErrTooManyRedirects says that an answer led on and on.
	ErrTooManyRedirects = errors.New("too many redirects")
)

// The bounds of every connection.
const (
	dialTimeout     = 10 * time.Second
	headerTimeout   = 60 * time.Second
	maxHeaderBytes  = 64 << 10
	maxConnsPerHost = 16
	maxIdle         = 8
	idleTimeout     = 30 * time.Second
)

// Limits bound one request and its answer.
type Limits struct {
	// Timeout is for the whole, the body included; 0 is none, for streams
	// whose context ends them.
	Timeout time.Duration
	// Bytes bounds the body, as it is after decompression; it must be set.
	Bytes int64
	// Redirects is how many are followed.
	Redirects int
}

// Fetcher makes clients that share their connections.
type Fetcher struct {
	transport *http.Transport
	allowed   allowed
}

// New allows what each text names beside public addresses: an address or a
// range of them, or a host's name, each with :PORT or for every port.
func New(allow []string) (*Fetcher, error) {
	list, err := parseAllowed(allow)
	if err != nil {
		return nil, err
	}
	f := &Fetcher{allowed: list}
	f.transport = &http.Transport{
		DialContext: f.Dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: dialTimeout,
		ResponseHeaderTimeout: headerTimeout, MaxResponseHeaderBytes: maxHeaderBytes,
		MaxConnsPerHost: maxConnsPerHost, MaxIdleConns: maxIdle, IdleConnTimeout: idleTimeout,
	}
	return f, nil
}

// Client is one with limits.
func (f *Fetcher) Client(l Limits) *http.Client {
	return &http.Client{
		Transport: bounded{next: f.transport, bytes: l.Bytes},
		Timeout:   l.Timeout,
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > l.Redirects {
				return fmt.Errorf("%w: more than %d", ErrTooManyRedirects, l.Redirects)
			}
			return nil
		},
	}
}

// Close ends idle connections.
func (f *Fetcher) Close() { f.transport.CloseIdleConnections() }

// Dial connects to where may be fetched from.
func (f *Fetcher) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	installRoots()
	d := &net.Dialer{Timeout: dialTimeout}
	if !f.allowed.names(address) {
		// After the name was resolved, before anything is sent.
		d.Control = func(_, resolved string, _ syscall.RawConn) error { return f.check(resolved) }
	}
	return d.DialContext(ctx, network, address)
}

func (f *Fetcher) check(resolved string) error {
	a, err := netip.ParseAddrPort(resolved)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForbidden, err)
	}
	if !Public(a.Addr()) && !f.allowed.contains(a) {
		return fmt.Errorf("%w: %s is not public", ErrForbidden, a.Addr())
	}
	return nil
}

// bounded bounds the bodies of answers.
type bounded struct {
	next  http.RoundTripper
	bytes int64
}

var _ http.RoundTripper = bounded{}

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > b.bytes {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes, at most %d are taken", ErrTooLong, resp.ContentLength, b.bytes)
	}
	// A connection that changes its protocol too: a server may say so unasked.
	resp.Body = &body{ReadCloser: resp.Body, left: b.bytes}
	return resp, nil
}

type body struct {
	io.ReadCloser
	left int64
}

func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	// One byte more shows whether there is more.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		err = ErrTooLong
	}
	b.left -= int64(n)
	return n, err
}

// allowed is what may be reached beside public addresses.
type allowed struct {
	// hosts are names with their port, or with none for every port.
	hosts  map[string]bool
	ranges []allowedRange
}

type allowedRange struct {
	prefix netip.Prefix
	// port is 0 for every port.
	port uint16
}

func parseAllowed(texts []string) (allowed, error) {
	a := allowed{hosts: map[string]bool{}}
	for i, text := range texts {
		r, isRange, err := parseRange(text)
		switch {
		case err != nil:
			return allowed{}, fmt.Errorf("allow[%d] %q: %w", i, text, err)
		case isRange:
			a.ranges = append(a.ranges, r)
		default:
			a.hosts[strings.ToLower(text)] = true
		}
	}
	return a, nil
}

var errAllowed = errors.New("want an address, a range or a host's name, and :PORT for one port alone")

func parseRange(text string) (r allowedRange, isRange bool, err error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return allowedRange{prefix: prefix.Masked()}, true, nil
	}
	if one, err := netip.ParseAddrPort(text); err == nil {
		return allowedRange{prefix: whole(one.Addr()), port: one.Port()}, true, nil
	}
	if one, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return allowedRange{prefix: whole(one)}, true, nil
	}
	if text == "" || strings.ContainsAny(text, "/ @[]") || strings.Count(text, ":") > 1 {
		return r, false, errAllowed
	}
	return r, false, nil
}

func whole(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// names reports whether the host of an address, as it was asked for, is allowed
// whatever it resolves to.
func (a allowed) names(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && (a.hosts[strings.ToLower(address)] || a.hosts[strings.ToLower(host)])
}

func (a allowed) contains(address netip.AddrPort) bool {
	for _, r := range a.ranges {
		if r.prefix.Contains(address.Addr().Unmap()) && (r.port == 0 || r.port == address.Port()) {
			return true
		}
	}
	return false
}
