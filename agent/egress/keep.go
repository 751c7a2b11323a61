package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/toolshed-cloud/shed/attest/backoff"
)

// all is every address. While it is refused, nothing but loopback passes.
var all = netip.MustParsePrefix("::/0")

// Keeper tells a filter what of the machine's own network nobody reaches: the
// links that it is on, with itself, its gateway and its neighbours, and its
// control plane. Until all of those are known the payload has no network.
type Keeper struct {
	Filter *Filter
	// Hosts are names or addresses that the payload does not reach, wherever
	// they are.
	Hosts  []string
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Report hears of what fails and is tried again.
	Report func(error)

	// failures are those in a row.
	failures int
}

// The times after which hosts are looked up again, before they were found, at
// first, and after.
const (
	lookupAgain = time.Second
	lookupLater = time.Minute
)

// Run keeps the filter up to date until ctx ends. Errors are the kernel's.
func (k *Keeper) Run(ctx context.Context) error {
	done := make(chan struct{})
	defer close(done)
	changes := make(chan netlink.AddrUpdate, 16)
	if err := netlink.AddrSubscribeWithOptions(changes, done, netlink.AddrSubscribeOptions{ListExisting: true}); err != nil {
		return fmt.Errorf("watching the machine's addresses: %w", err)
	}
	if err := k.refuseLinks(); err != nil {
		return err
	}
	again := k.refuseHosts(ctx)
	timer := time.NewTimer(again)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case change, open := <-changes:
			if !open {
				return errors.New("watching the machine's addresses: the kernel says no more")
			}
			if err := errors.Join(k.refuseLink(change.LinkAddress), k.refuseLinks()); err != nil {
				return err
			}
		case <-timer.C:
			// Routes come without an address too.
			if err := k.refuseLinks(); err != nil {
				return err
			}
			timer.Reset(k.refuseHosts(ctx))
		}
	}
}

// refuseLinks refuses the links that there are, and where the routes lead first.
func (k *Keeper) refuseLinks() error {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("listing the machine's addresses: %w", err)
	}
	for _, a := range addresses {
		if err := k.refuseLink(*a.IPNet); err != nil {
			return err
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("listing the machine's routes: %w", err)
	}
	for _, r := range routes {
		if gateway, ok := netip.AddrFromSlice(r.Gw); ok {
			gateway = gateway.Unmap()
			if err := k.Filter.Refuse(netip.PrefixFrom(gateway, gateway.BitLen())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Keeper) refuseLink(n net.IPNet) error {
	address, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	address = address.Unmap()
	if !ok || address.IsLoopback() {
		return nil
	}
	return k.Filter.Refuse(netip.PrefixFrom(address, ones).Masked())
}

// refuseHosts refuses the hosts' addresses, opens the network once all were found,
// and answers when to look again.
func (k *Keeper) refuseHosts(ctx context.Context) time.Duration {
	for _, host := range k.Hosts {
		addresses, err := k.lookup(ctx, host)
		for _, a := range addresses {
			err = errors.Join(err, k.Filter.Refuse(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())))
		}
		if err != nil {
			return k.fail(fmt.Errorf("keeping the payload from %s: %w", host, err))
		}
	}
	if err := k.Filter.open(); err != nil {
		return k.fail(err)
	}
	k.failures = 0
	return lookupLater
}

// fail answers when to try again.
func (k *Keeper) fail(err error) time.Duration {
	k.Report(err)
	k.failures++
	return backoff.Pause(k.failures, lookupAgain, lookupLater)
}

func (k *Keeper) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.WithZone("")}, nil
	}
	return k.Lookup(ctx, host)
}

// open lets the payload have what its right grants.
func (f *Filter) open() error {
	if err := f.refused.Delete(treeKey(all)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("opening the payload's network: %w", err)
	}
	return nil
}
