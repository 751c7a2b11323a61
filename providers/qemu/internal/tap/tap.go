// Package tap gives machines a network card each that leads into a network
// namespace of the host's, with one address of a range.
//
// Invariants: every card is a network of its own, so no machine sees another's
// frames; the kernel takes from a card only what comes from its machine's
// address, and has no route to that address but this card; a card is gone with
// the last process that holds it; and nothing outside the namespace is touched.
package tap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNetwork says that a network cannot be used as it is described.
var ErrNetwork = errors.New("network")

// namespaces is where ip netns keeps them.
const namespaces = "/run/netns"

// validName is what names of namespaces look like: they become parts of paths.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// Network is where cards lead to.
type Network struct {
	// Namespace is the name of one that ip netns made.
	Namespace string `json:"namespace"`
	// Range are the addresses, IPv4; Gateway is the host's own among them.
	Range   netip.Prefix `json:"range"`
	Gateway netip.Addr   `json:"gateway"`
}

// Check refuses a network that no machine could be put into. Errors match
// ErrNetwork.
func (n Network) Check() error {
	switch {
	case !validName.MatchString(n.Namespace):
		return fmt.Errorf("%w: namespace %.64q is no name", ErrNetwork, n.Namespace)
	case !n.Range.Addr().Is4() || n.Range.Masked() != n.Range || n.Range.Bits() < 8 || n.Range.Bits() > 30:
		return fmt.Errorf("%w: range %s is not like 10.7.0.0/24, from /8 to /30", ErrNetwork, n.Range)
	case !n.Has(n.Gateway):
		return fmt.Errorf("%w: gateway %s is not an address of %s", ErrNetwork, n.Gateway, n.Range)
	}
	return nil
}

// Has reports whether an address can be somebody's: it is in the range, and
// neither its first nor its last.
func (n Network) Has(a netip.Addr) bool {
	return n.Range.Contains(a) && n.Range.Contains(a.Next()) && a != n.Range.Addr()
}

// Free answers the first address that is nobody's; false where there is none.
func (n Network) Free(taken func(netip.Addr) bool) (netip.Addr, bool) {
	for a := n.Range.Addr().Next(); n.Has(a); a = a.Next() {
		if a != n.Gateway && !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Ready refuses a namespace that is not there, that may not be entered, or whose
// kernel settings would let machines take others' addresses. Errors match
// ErrNetwork.
func (n Network) Ready() error {
	err := n.inside(func() error {
		all, err := os.ReadFile(sysctl("ipv4", "all", "rp_filter"))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(all)) == "2" {
			return errors.New("net.ipv4.conf.all.rp_filter is 2 there, which takes packets from anybody's address: want 0 or 1")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: namespace %s: %w", ErrNetwork, n.Namespace, err)
	}
	return nil
}

func sysctl(family, link, name string) string {
	return filepath.Join("/proc/sys/net", family, "conf", link, name)
}

// Open makes a card and its end in the namespace, which the namespace reaches
// the address by. The card is the file's, for QEMU.
func (n Network) Open(name string, address netip.Addr) (card *os.File, err error) {
	err = n.inside(func() (err error) {
		if card, err = create(name); err != nil {
			return err
		}
		return n.prepare(name, address)
	})
	if err != nil && card != nil {
		err = errors.Join(err, card.Close())
		card = nil
	}
	if err != nil {
		return nil, fmt.Errorf("making network card %s: %w", name, err)
	}
	return card, nil
}

// create makes a card in the namespace of the calling thread.
func create(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	// QEMU writes a header for what it leaves to the host's kernel.
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// prepare has the kernel answer on a card, and take from it nothing but what
// comes from its machine's address: the way back to any other is not this card.
func (n Network) prepare(name string, address netip.Addr) error {
	for path, value := range map[string]string{
		sysctl("ipv4", name, "rp_filter"):        "1",
		sysctl("ipv4", name, "accept_redirects"): "0",
		sysctl("ipv6", name, "disable_ipv6"):     "1",
	} {
		if err := os.WriteFile(path, []byte(value), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	host := func(a netip.Addr) *net.IPNet {
		return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
	}
	return netlink.AddrReplace(link, &netlink.Addr{IPNet: host(n.Gateway), Peer: host(address)})
}

// inside runs do on a thread in the namespace. The thread ends with it.
func (n Network) inside(do func() error) error {
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		ended <- func() error {
			fd, err := unix.Open(filepath.Join(namespaces, n.Namespace), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd) //nolint:errcheck // it is only a descriptor
			if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("entering it: %w", err)
			}
			return do()
		}()
	}()
	return <-ended
}

// Listen readies a socket for what a machine asks by DHCP on its card.
func (n Network) Listen(name string) (conn net.PacketConn, err error) {
	err = n.inside(func() (err error) {
		conn, err = server4.NewIPv4UDPConn(name, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listening for DHCP on %s: %w", name, err)
	}
	return conn, nil
}
