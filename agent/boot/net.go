package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"

	"github.com/toolshed-cloud/shed/attest/statefile"
)

// ErrNoLink says that the machine has no network card.
var ErrNoLink = errors.New("no network card")

// Network is the machine's one network card with its lease.
type Network struct {
	link netlink.Link

	// mu guards lease.
	mu    sync.Mutex
	lease *nclient4.Lease
}

func (n *Network) ack() *dhcpv4.DHCPv4 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lease.ACK
}

// NetworkUp brings up loopback and the first card and takes a lease by DHCP
// (RFC 2131). Errors are the kernel's, ErrLease and ctx's; a network without a lease
// is asked again.
func NetworkUp(ctx context.Context) (*Network, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("listing network cards: %w", err)
	}
	n := &Network{}
	for _, link := range links {
		a := link.Attrs()
		if a.Flags&net.FlagLoopback == 0 && (n.link != nil || len(a.HardwareAddr) == 0) {
			continue
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return nil, fmt.Errorf("bringing up %s: %w", a.Name, err)
		}
		if a.Flags&net.FlagLoopback == 0 {
			n.link = link
		}
	}
	if n.link == nil {
		return nil, ErrNoLink
	}
	return n, n.acquire(ctx)
}

// Address is the leased address.
func (n *Network) Address() net.IP { return n.ack().YourIPAddr }

// NameServers are those that the lease names.
func (n *Network) NameServers() []netip.AddrPort {
	var servers []netip.AddrPort
	for _, ip := range n.ack().DNS() {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		}
	}
	return servers
}

// resolvers is where the agent's own lookups find name servers. Without the file
// they would ask the machine itself, where the payload's resolver is.
const resolvers = "/etc/resolv.conf"

func (n *Network) writeResolvers() error {
	var b []byte
	for _, server := range n.NameServers() {
		b = fmt.Appendf(b, "nameserver %s\n", server.Addr())
	}
	if err := statefile.Write(resolvers, 0o644, b); err != nil {
		return fmt.Errorf("noting the name servers: %w", err)
	}
	return nil
}

// Keep renews the lease at half of its time until ctx ends; report hears of
// what fails meanwhile.
func (n *Network) Keep(ctx context.Context, report func(error)) {
	for {
		wait := max(n.ack().IPAddressLeaseTime(time.Hour)/2, time.Minute)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := n.acquire(ctx); err != nil && ctx.Err() == nil {
			report(err)
		}
	}
}

// The first answers can be lost while the card settles, so the first try is short.
// Each waits twice as long as the one before (RFC 2131, section 4.1), and after the
// last it begins anew: a server that was away for a while is not waited for as long.
const (
	dhcpTimeout = 500 * time.Millisecond
	dhcpTries   = 6
)

var patience = []nclient4.ClientOpt{nclient4.WithTimeout(dhcpTimeout), nclient4.WithRetry(dhcpTries)}

func (n *Network) acquire(ctx context.Context) error {
	name := n.link.Attrs().Name
	client, err := nclient4.New(name, patience...)
	if err != nil {
		return fmt.Errorf("asking for a lease on %s: %w", name, err)
	}
	defer client.Close()
	lease, err := request(ctx, client)
	if err != nil {
		return fmt.Errorf("asking for a lease on %s: %w", name, err)
	}
	if err := n.apply(lease.ACK); err != nil {
		return err
	}
	n.mu.Lock()
	n.lease = lease
	n.mu.Unlock()
	return n.writeResolvers()
}

// request asks until it is answered, or ctx ends.
func request(ctx context.Context, client *nclient4.Client) (*nclient4.Lease, error) {
	for {
		if lease, err := client.Request(ctx); !errors.Is(err, nclient4.ErrNoResponse) {
			return lease, err
		}
	}
}

func (n *Network) apply(ack *dhcpv4.DHCPv4) error {
	g, err := grantedBy(ack)
	if err != nil {
		return err
	}
	address := &netlink.Addr{IPNet: &g.address}
	if err := netlink.AddrReplace(n.link, address); err != nil {
		return fmt.Errorf("setting address %s: %w", address, err)
	}
	if g.gateway == nil {
		return nil
	}
	route := &netlink.Route{LinkIndex: n.link.Attrs().Index, Gw: g.gateway}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("setting route by %s: %w", g.gateway, err)
	}
	return nil
}
