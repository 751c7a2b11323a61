package oci

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// The bounds on a registry's answers.
const (
	maxMetadata  = 1 << 20
	maxRedirects = 5
	headersIn    = time.Minute
)

// repository speaks to the one that a reference names.
func (o Options) repository() (*remote.Repository, error) {
	ref, err := registry.ParseReference(o.Reference)
	if err != nil || ref.Reference == "" {
		return nil, fmt.Errorf("%w: %q", ErrReference, o.Reference)
	}
	repo, err := remote.NewRepository(ref.Registry + "/" + ref.Repository)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReference, err)
	}
	repo.Reference = ref
	repo.PlainHTTP = o.PlainHTTP
	repo.MaxMetadataBytes = maxMetadata
	// Whoever signed in with docker or oras is signed in.
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the credentials of registries: %w", err)
	}
	repo.Client = &auth.Client{
		Client: client(ref.Host(), o.PlainHTTP), Cache: auth.NewCache(), Credential: credentials.Credential(store),
	}
	return repo, nil
}

// client reaches the registry wherever it is, and others only where anybody
// could.
func client(host string, plain bool) *http.Client {
	g := &guard{allowed: map[string]bool{withPort(host, plain): true}}
	t := &http.Transport{
		Proxy: g.proxy, DialContext: g.dial, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: headersIn, IdleConnTimeout: headersIn,
	}
	return &http.Client{Transport: retry.NewTransport(t), CheckRedirect: g.checkRedirect}
}

func withPort(host string, plain bool) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	if plain {
		return net.JoinHostPort(host, "80")
	}
	return net.JoinHostPort(host, "443")
}

type guard struct {
	mu sync.Mutex
	// allowed, guarded by mu, are the addresses that the user named: the
	// registry's and the proxy's.
	allowed map[string]bool
}

func (g *guard) isAllowed(address string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.allowed[address]
}

// proxy is the environment's, whose address is the user's word too.
func (g *guard) proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if u != nil {
		g.mu.Lock()
		g.allowed[withPort(u.Host, u.Scheme == "http")] = true
		g.mu.Unlock()
	}
	return u, err
}

// dial looks at the address that a name turned out to be, so that no name can
// hide one.
func (g *guard) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 30 * time.Second}
	if !g.isAllowed(address) {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("%w: %s", ErrDestination, address)
			}
			return checkAddress(at.Addr())
		}
	}
	return d.DialContext(ctx, network, address)
}

// checkRedirect refuses what gives up TLS, and an address that is refused,
// which a proxy would resolve for us.
func (g *guard) checkRedirect(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("%w: it redirects more than %d times", ErrDestination, maxRedirects)
	}
	if via[len(via)-1].URL.Scheme == "https" && r.URL.Scheme != "https" {
		return fmt.Errorf("%w: %s is not encrypted", ErrDestination, r.URL.Redacted())
	}
	if at, err := netip.ParseAddr(r.URL.Hostname()); err == nil && !g.isAllowed(withPort(r.URL.Host, r.URL.Scheme == "http")) {
		return checkAddress(at)
	}
	return nil
}

// Addresses that only machines of a cloud reach, beside the link-local one, and
// the prefix behind which an IPv4 address can stand (RFC 6052).
var (
	metadata = []netip.Addr{
		netip.MustParseAddr("fd00:ec2::254"), netip.MustParseAddr("100.100.100.200"), netip.MustParseAddr("192.0.0.192"),
	}
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

// checkAddress refuses what no registry has its files at. Private networks are
// allowed: registries of one's own are there. The error matches ErrDestination.
func checkAddress(at netip.Addr) error {
	at = at.Unmap().WithZone("")
	if nat64.Contains(at) {
		b := at.As16()
		at = netip.AddrFrom4([4]byte(b[12:]))
	}
	refused := !at.IsValid() || at.IsUnspecified() || at.IsLoopback() || at.IsLinkLocalUnicast() || at.IsMulticast()
	for _, m := range metadata {
		refused = refused || at == m
	}
	if refused {
		return fmt.Errorf("%w: %s", ErrDestination, at)
	}
	return nil
}
