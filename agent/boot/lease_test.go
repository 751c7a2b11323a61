package boot

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// acknowledged is an acknowledgement of that address with those options.
func acknowledged(tb testing.TB, ip net.IP, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	tb.Helper()
	ack, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(ip), dhcpv4.WithTransactionID(dhcpv4.TransactionID{1}))
	if err != nil {
		tb.Fatal(err)
	}
	for _, o := range options {
		ack.UpdateOption(o)
	}
	return ack
}

func subnet(ones int) dhcpv4.Option { return dhcpv4.OptSubnetMask(net.CIDRMask(ones, 32)) }

func TestLeases(t *testing.T) {
	ip, gateway := net.IPv4(10, 0, 2, 15), net.IPv4(10, 0, 2, 2)
	for name, c := range map[string]struct {
		ack     *dhcpv4.DHCPv4
		address string
		gateway net.IP
	}{
		"with a gateway":           {acknowledged(t, ip, subnet(24), dhcpv4.OptRouter(gateway)), "10.0.2.15/24", gateway},
		"without one":              {acknowledged(t, ip, subnet(24)), "10.0.2.15/24", nil},
		"of one address":           {acknowledged(t, ip, subnet(32), dhcpv4.OptRouter(gateway)), "10.0.2.15/32", gateway},
		"without a mask":           {ack: acknowledged(t, ip)},
		"with a mask of nothing":   {ack: acknowledged(t, ip, subnet(0))},
		"with a mask of two parts": {ack: acknowledged(t, ip, dhcpv4.OptSubnetMask(net.IPv4Mask(255, 0, 255, 0)))},
		"of no address":            {ack: acknowledged(t, net.IPv4zero, subnet(24))},
		"of a loopback address":    {ack: acknowledged(t, net.IPv4(127, 0, 0, 1), subnet(8))},
		"of a group":               {ack: acknowledged(t, net.IPv4(224, 0, 0, 1), subnet(24))},
		"of everybody":             {ack: acknowledged(t, net.IPv4bcast, subnet(24))},
	} {
		got, err := grantedBy(c.ack)
		if c.address == "" {
			if !errors.Is(err, ErrLease) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			continue
		}
		if err != nil || got.address.String() != c.address || !got.gateway.Equal(c.gateway) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// What a host's DHCP server says is refused, or is an address in a subnet.
func FuzzLease(f *testing.F) {
	ip := net.IPv4(10, 0, 2, 15)
	full := acknowledged(f, ip, subnet(24), dhcpv4.OptRouter(net.IPv4(10, 0, 2, 2)), dhcpv4.OptDNS(net.IPv4(10, 0, 2, 3))).ToBytes()
	f.Add(full)
	f.Add(full[:len(full)-1])
	f.Add(acknowledged(f, ip).ToBytes())
	f.Add(acknowledged(f, ip, dhcpv4.OptSubnetMask(net.IPv4Mask(255, 0, 255, 0))).ToBytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		ack, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		got, err := grantedBy(ack)
		if err != nil {
			if !errors.Is(err, ErrLease) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		prefix, err := netip.ParsePrefix(got.address.String())
		if err != nil || !prefix.Addr().Is4() || prefix.Bits() == 0 || prefix.Addr().IsLoopback() || got.gateway != nil && got.gateway.To4() == nil {
			t.Errorf("taken: %+v, %v", got, err)
		}
	})
}
