package tap

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// maxRequest is more than any client sends.
const maxRequest = 2048

// leaseTime is long: the address stays the machine's, and the provider may not
// be running when it would be renewed.
const leaseTime = 365 * 24 * time.Hour

// Serve tells the machine behind conn its address until conn is closed. Whoever
// asks on its card is that machine. What is no request is not answered.
func (n Network) Serve(conn net.PacketConn, address netip.Addr) error {
	// One byte more than is read tells what is too long.
	buffer := make([]byte, maxRequest+1)
	for {
		size, _, err := conn.ReadFrom(buffer)
		if err != nil {
			return fmt.Errorf("reading what a machine asks by DHCP: %w", err)
		}
		reply := n.answer(buffer[:size], address)
		if reply == nil {
			continue
		}
		// A machine that cannot be told asks again.
		_, _ = conn.WriteTo(reply, &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
	}
}

// answer is nil where there is nothing to say.
func (n Network) answer(b []byte, address netip.Addr) []byte {
	if len(b) > maxRequest {
		return nil
	}
	request, err := dhcpv4.FromBytes(b)
	if err != nil || request.OpCode != dhcpv4.OpcodeBootRequest {
		return nil
	}
	kind := dhcpv4.MessageTypeAck
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		asked := request.RequestedIPAddress()
		if asked == nil || asked.IsUnspecified() {
			asked = request.ClientIPAddr
		}
		if !asked.Equal(address.AsSlice()) {
			kind = dhcpv4.MessageTypeNak
		}
	default:
		return nil
	}
	options := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(n.Gateway.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(n.Gateway.AsSlice())),
	}
	if kind != dhcpv4.MessageTypeNak {
		options = append(options, dhcpv4.WithYourIP(address.AsSlice()), dhcpv4.WithLeaseTime(uint32(leaseTime.Seconds())),
			dhcpv4.WithNetmask(net.CIDRMask(n.Range.Bits(), 32)), dhcpv4.WithRouter(n.Gateway.AsSlice()))
	}
	reply, err := dhcpv4.NewReplyFromRequest(request, options...)
	if err != nil {
		return nil
	}
	return reply.ToBytes()
}
