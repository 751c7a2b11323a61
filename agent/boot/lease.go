package boot

import (
	"errors"
	"fmt"
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// ErrLease says that what a DHCP server grants cannot be used.
var ErrLease = errors.New("lease cannot be used")

// granted is what of an acknowledgement the card is set up by. The host writes
// every byte of it, and netlink panics over an address without a mask.
type granted struct {
	address net.IPNet
	// gateway is nil where none is named.
	gateway net.IP
}

// grantedBy reads an acknowledgement. The error is ErrLease.
func grantedBy(ack *dhcpv4.DHCPv4) (granted, error) {
	ip, mask := ack.YourIPAddr.To4(), ack.SubnetMask()
	if ip == nil || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip.Equal(net.IPv4bcast) {
		return granted{}, fmt.Errorf("%w: its address is %s", ErrLease, ack.YourIPAddr)
	}
	if ones, bits := mask.Size(); bits != 8*net.IPv4len || ones == 0 {
		return granted{}, fmt.Errorf("%w: its subnet mask is %s", ErrLease, mask)
	}
	g := granted{address: net.IPNet{IP: ip, Mask: mask}}
	if gateways := ack.Router(); len(gateways) > 0 {
		g.gateway = gateways[0]
	}
	return g, nil
}
