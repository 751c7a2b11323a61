package tap

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	office  = Network{Namespace: "office", Range: netip.MustParsePrefix("10.7.0.0/24"), Gateway: netip.MustParseAddr("10.7.0.1")}
	desk    = netip.MustParseAddr("10.7.0.9")
	another = net.IPv4(10, 7, 0, 10)
)

// asked is a request as a client makes it, changed.
func asked(t *testing.T, kind dhcpv4.MessageType, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	request, err := dhcpv4.New(append(modifiers, dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(guestMAC))...)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// A request for the machine's address is acknowledged, however it names it; one
// for another is not, and then no address is told.
func TestWhatIsAcknowledged(t *testing.T) {
	requested := func(ip net.IP) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip)) }
	for name, c := range map[string]struct {
		request *dhcpv4.DHCPv4
		want    dhcpv4.MessageType
	}{
		"it asks":                  {asked(t, dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer},
		"it asks for another":      {asked(t, dhcpv4.MessageTypeDiscover, requested(another)), dhcpv4.MessageTypeOffer},
		"it takes it":              {asked(t, dhcpv4.MessageTypeRequest, requested(desk.AsSlice())), dhcpv4.MessageTypeAck},
		"it takes another":         {asked(t, dhcpv4.MessageTypeRequest, requested(another)), dhcpv4.MessageTypeNak},
		"it has it":                {asked(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(desk.AsSlice())), dhcpv4.MessageTypeAck},
		"it has it, and says none": {asked(t, dhcpv4.MessageTypeRequest, requested(net.IPv4zero), dhcpv4.WithClientIP(desk.AsSlice())), dhcpv4.MessageTypeAck},
		"it has another":           {asked(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(another)), dhcpv4.MessageTypeNak},
		"it takes none":            {asked(t, dhcpv4.MessageTypeRequest), dhcpv4.MessageTypeNak},
	} {
		reply, err := dhcpv4.FromBytes(office.answer(c.request.ToBytes(), desk))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if reply.MessageType() != c.want || !reply.ServerIdentifier().Equal(office.Gateway.AsSlice()) {
			t.Errorf("%s: %s", name, reply.Summary())
		}
		if c.want == dhcpv4.MessageTypeNak {
			if !reply.YourIPAddr.IsUnspecified() || reply.IPAddressLeaseTime(0) != 0 {
				t.Errorf("%s: it is told an address: %s", name, reply.Summary())
			}
			continue
		}
		// Nobody may be there to renew it.
		if !reply.YourIPAddr.Equal(desk.AsSlice()) || reply.IPAddressLeaseTime(0) < 300*24*time.Hour {
			t.Errorf("%s: %s", name, reply.Summary())
		}
	}
}

func TestWhatIsNotAnswered(t *testing.T) {
	reply := asked(t, dhcpv4.MessageTypeDiscover)
	reply.OpCode = dhcpv4.OpcodeBootReply
	whole := asked(t, dhcpv4.MessageTypeDiscover).ToBytes()
	for name, b := range map[string][]byte{
		"nothing": nil, "half of it": whole[:100], "a reply": reply.ToBytes(),
		"no kind":   asked(t, dhcpv4.MessageTypeNone).ToBytes(),
		"a release": asked(t, dhcpv4.MessageTypeRelease).ToBytes(),
		"too long":  append(whole, make([]byte, maxRequest)...),
	} {
		if answer := office.answer(b, desk); answer != nil {
			t.Errorf("%s: %x", name, answer)
		}
	}
}
