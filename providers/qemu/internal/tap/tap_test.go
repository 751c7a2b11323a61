package tap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// within bounds what a test waits for.
const within = 10 * time.Second

// namespace makes one without a way out.
func namespace(t *testing.T) Network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes a network namespace, which takes root")
	}
	n := Network{
		Namespace: fmt.Sprintf("shed-test-%d-%d", os.Getpid(), time.Now().UnixNano()),
		Range:     netip.MustParsePrefix("10.77.0.0/29"), Gateway: netip.MustParseAddr("10.77.0.1"),
	}
	ip(t, "netns", "add", n.Namespace)
	t.Cleanup(func() { ip(t, "netns", "del", n.Namespace) })
	return n
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// guest is a machine as far as its card goes.
type guest struct {
	t       *testing.T
	card    *os.File
	address netip.Addr
	// host is the hardware address of the card's other end.
	host net.HardwareAddr
}

var guestMAC = net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}

func boot(t *testing.T, n Network, name, address string) *guest {
	t.Helper()
	g := &guest{t: t, address: netip.MustParseAddr(address)}
	var err error
	if g.card, err = n.Open(name, g.address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.card.Close() })
	err = n.inside(func() error {
		link, err := net.InterfaceByName(name)
		if err == nil {
			g.host = link.HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// virtioHeader goes before each frame, and asks for nothing.
const virtioHeader = 10

func (g *guest) send(etherType uint16, to net.HardwareAddr, payload []byte) {
	g.t.Helper()
	frame := make([]byte, virtioHeader, virtioHeader+14+len(payload))
	frame = append(append(frame, to...), guestMAC...)
	frame = append(binary.BigEndian.AppendUint16(frame, etherType), payload...)
	if _, err := g.card.Write(frame); err != nil {
		g.t.Fatal(err)
	}
}

// receive answers the payload of the next frame of a kind that wanted takes.
func (g *guest) receive(etherType uint16, wanted func(payload []byte) bool) []byte {
	g.t.Helper()
	if err := g.card.SetReadDeadline(time.Now().Add(within)); err != nil {
		g.t.Fatal(err)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := g.card.Read(buffer)
		if err != nil {
			g.t.Fatalf("waiting for a frame of type %#x: %v", etherType, err)
		}
		frame := buffer[virtioHeader:n]
		if binary.BigEndian.Uint16(frame[12:]) == etherType && wanted(frame[14:]) {
			return append([]byte{}, frame[14:]...)
		}
	}
}

func (g *guest) udp(from, to netip.AddrPort, payload []byte) {
	g.t.Helper()
	b := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0}
	b = append(append(b, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	b = append(append(b, 0, 0), payload...)
	destination := g.host
	if to.Addr() == netip.MustParseAddr("255.255.255.255") {
		destination = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	}
	g.send(0x0800, destination, b)
}

func udpTo(port uint16) func([]byte) bool {
	return func(b []byte) bool { return len(b) >= 28 && b[9] == 17 && binary.BigEndian.Uint16(b[22:]) == port }
}

func (g *guest) dhcp(modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	g.t.Helper()
	request, err := dhcpv4.New(append(modifiers, dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithBroadcast(true))...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.udp(netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), request.ToBytes())
	b := g.receive(0x0800, udpTo(dhcpv4.ClientPort))
	reply, err := dhcpv4.FromBytes(b[28:])
	if err != nil {
		g.t.Fatal(err)
	}
	return reply
}

func TestAMachineIsToldItsAddress(t *testing.T) {
	n := namespace(t)
	g := boot(t, n, "shedguest1", "10.77.0.2")
	conn, err := n.Listen("shedguest1")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.Serve(conn, g.address) }()
	offer := g.dhcp(dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover))
	if offer.MessageType() != dhcpv4.MessageTypeOffer || !offer.YourIPAddr.Equal(g.address.AsSlice()) {
		t.Errorf("offered %s", offer.Summary())
	}
	ack := g.dhcp(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(g.address.AsSlice())))
	if ack.MessageType() != dhcpv4.MessageTypeAck || !ack.YourIPAddr.Equal(g.address.AsSlice()) || len(ack.Router()) != 1 ||
		!ack.Router()[0].Equal(n.Gateway.AsSlice()) || ack.SubnetMask().String() != "fffffff8" {
		t.Errorf("acknowledged %s", ack.Summary())
	}
	nak := g.dhcp(dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 77, 0, 3))))
	if nak.MessageType() != dhcpv4.MessageTypeNak {
		t.Errorf("another's address: %s", nak.Summary())
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("served until %v", err)
	}
}

// The next packet that arrives tells that those before it did not.
func TestAMachineHasItsAddressAlone(t *testing.T) {
	n := namespace(t)
	one, other := boot(t, n, "shedguest1", "10.77.0.2"), boot(t, n, "shedguest2", "10.77.0.3")
	var plane *net.UDPConn
	err := n.inside(func() (err error) {
		plane, err = net.ListenUDP("udp4", &net.UDPAddr{IP: n.Gateway.AsSlice()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Close()
	if err := plane.SetDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	to := plane.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, spoofed := range []string{"10.77.0.3:7", "10.77.0.4:7", "192.0.2.1:7", "10.77.0.1:7", "127.0.0.1:7"} {
		one.udp(netip.MustParseAddrPort(spoofed), to, []byte("spoofed "+spoofed))
	}
	for _, g := range []*guest{one, other} {
		from := netip.AddrPortFrom(g.address, 7)
		g.udp(from, to, []byte("true"))
		buffer := make([]byte, 64)
		size, sender, err := plane.ReadFromUDPAddrPort(buffer)
		if err != nil || string(buffer[:size]) != "true" || sender != from {
			t.Fatalf("%q from %s, want it from %s: %v", buffer[:size], sender, from, err)
		}
		// The way back: the host asks for the machine's hardware address, on
		// its card.
		if _, err := plane.WriteToUDPAddrPort([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		g.answerARP()
		if b := g.receive(0x0800, udpTo(7)); string(b[28:]) != "answer" {
			t.Errorf("received %q", b[28:])
		}
	}
}

// answerARP tells the host the guest's hardware address when it asks.
func (g *guest) answerARP() {
	g.t.Helper()
	asked := g.receive(0x0806, func(b []byte) bool {
		return len(b) >= 28 && binary.BigEndian.Uint16(b[6:]) == 1 && netip.AddrFrom4([4]byte(b[24:28])) == g.address
	})
	answer := append([]byte{0, 1, 8, 0, 6, 4, 0, 2}, guestMAC...)
	answer = append(answer, g.address.AsSlice()...)
	g.send(0x0806, g.host, append(answer, asked[8:18]...))
}

// The kernel has no address on a card but the one that it is given.
func TestACardHasNoAddressOfItsOwn(t *testing.T) {
	n := namespace(t)
	boot(t, n, "shedguest1", "10.77.0.2")
	err := n.inside(func() error {
		link, err := net.InterfaceByName("shedguest1")
		if err != nil {
			return err
		}
		all, err := link.Addrs()
		if len(all) != 1 || !strings.HasPrefix(fmt.Sprint(all), "[10.77.0.1/") {
			t.Errorf("it has %v", all)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestACardIsGoneWithItsFile(t *testing.T) {
	n := namespace(t)
	g := boot(t, n, "shedguest1", "10.77.0.2")
	if err := g.card.Close(); err != nil {
		t.Fatal(err)
	}
	again := boot(t, n, "shedguest1", "10.77.0.2")
	again.card.Close()
	err := n.inside(func() error {
		links, err := net.Interfaces()
		for _, link := range links {
			if link.Name != "lo" && strings.HasPrefix(link.Name, "shed") {
				t.Errorf("%s is left", link.Name)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestANamespaceThatTakesAnybodysPacketsIsRefused(t *testing.T) {
	n := namespace(t)
	set := func(value string) {
		t.Helper()
		if err := n.inside(func() error { return os.WriteFile(sysctl("ipv4", "all", "rp_filter"), []byte(value), 0) }); err != nil {
			t.Fatal(err)
		}
	}
	set("0")
	if err := n.Ready(); err != nil {
		t.Error(err)
	}
	set("2")
	if err := n.Ready(); !errors.Is(err, ErrNetwork) {
		t.Errorf("loose: %v", err)
	}
	n.Namespace = "shed-test-absent"
	if err := n.Ready(); !errors.Is(err, ErrNetwork) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

func TestNetworksAreChecked(t *testing.T) {
	good := Network{Namespace: "shop", Range: netip.MustParsePrefix("10.7.0.0/24"), Gateway: netip.MustParseAddr("10.7.0.1")}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Network){
		"path":      func(n *Network) { n.Namespace = "../shop" },
		"no name":   func(n *Network) { n.Namespace = "" },
		"IPv6":      func(n *Network) { n.Range = netip.MustParsePrefix("fd00::/64") },
		"host bits": func(n *Network) { n.Range = netip.MustParsePrefix("10.7.0.1/24") },
		"too small": func(n *Network) { n.Range = netip.MustParsePrefix("10.7.0.0/31") },
		"one address": func(n *Network) {
			n.Range, n.Gateway = netip.MustParsePrefix("10.7.0.1/32"), netip.MustParseAddr("10.7.0.1")
		},
		"too large":       func(n *Network) { n.Range = netip.MustParsePrefix("10.0.0.0/7") },
		"none":            func(n *Network) { n.Range = netip.Prefix{} },
		"gateway outside": func(n *Network) { n.Gateway = netip.MustParseAddr("10.8.0.1") },
		"gateway first":   func(n *Network) { n.Gateway = netip.MustParseAddr("10.7.0.0") },
		"gateway last":    func(n *Network) { n.Gateway = netip.MustParseAddr("10.7.0.255") },
		"no gateway":      func(n *Network) { n.Gateway = netip.Addr{} },
	} {
		bad := good
		change(&bad)
		if err := bad.Check(); !errors.Is(err, ErrNetwork) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFreeGivesEveryAddressOnce(t *testing.T) {
	n := Network{Namespace: "shop", Range: netip.MustParsePrefix("10.7.0.0/29"), Gateway: netip.MustParseAddr("10.7.0.1")}
	taken := map[netip.Addr]bool{}
	for {
		a, ok := n.Free(func(a netip.Addr) bool { return taken[a] })
		if !ok {
			break
		}
		if taken[a] || !n.Has(a) || a == n.Gateway {
			t.Fatalf("%s", a)
		}
		taken[a] = true
	}
	if len(taken) != 5 {
		t.Errorf("%d addresses, want 5", len(taken))
	}
}

func FuzzAnswer(f *testing.F) {
	discover, err := dhcpv4.NewDiscovery(guestMAC)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(discover.ToBytes())
	f.Add([]byte{})
	n := Network{Namespace: "shop", Range: netip.MustParsePrefix("10.7.0.0/29"), Gateway: netip.MustParseAddr("10.7.0.1")}
	address := netip.MustParseAddr("10.7.0.2")
	f.Fuzz(func(t *testing.T, b []byte) {
		reply := n.answer(b, address)
		if reply == nil {
			return
		}
		said, err := dhcpv4.FromBytes(reply)
		if err != nil {
			t.Fatal(err)
		}
		if !said.YourIPAddr.Equal(address.AsSlice()) && !said.YourIPAddr.IsUnspecified() {
			t.Errorf("told %s", said.YourIPAddr)
		}
	})
}
