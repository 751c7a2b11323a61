package connlimit

import (
	"net"
	"net/netip"
	"testing"
)

// What one network can have for nothing is one source.
func TestSourceOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1":        "192.0.2.1/32",
		"::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8::1":      "2001:db8::/64",
		"2001:db8::2:3":    "2001:db8::/64",
		"2001:db8:0:1::1":  "2001:db8:0:1::/64",
		"fe80::1%lo":       "fe80::/64",
	} {
		from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1))
		got, ok := sourceOf(from)
		if !ok || got != netip.MustParsePrefix(want) {
			t.Errorf("%s is %s (%t), want %s", address, got, ok, want)
		}
	}
	if got, ok := sourceOf(&net.UnixAddr{Name: "/s", Net: "unix"}); ok {
		t.Errorf("a Unix socket is the source %s", got)
	}
}

// offered is a listener that takes connections of its own making.
type offered struct {
	net.Listener
	next chan net.Conn
}

func (o offered) Accept() (net.Conn, error) { return <-o.next, nil }

type from struct {
	net.Conn
	address net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.address }

// A connection that is closed twice gives one place back, and a source without
// connections takes no memory.
func TestPlacesAreGivenBackOnce(t *testing.T) {
	next := make(chan net.Conn, 2)
	l := Listen(offered{next: next}, 8, 2).(*listener)
	address := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
	var open [2]net.Conn
	for i := range open {
		near, far := net.Pipe()
		defer far.Close()
		next <- from{near, address}
		var err error
		if open[i], err = l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	open[0].Close()
	open[0].Close()
	source, _ := sourceOf(address)
	if got := l.open[source]; got != 1 {
		t.Errorf("%d places are taken by one connection", got)
	}
	open[1].Close()
	if len(l.open) != 0 {
		t.Errorf("nothing is open, and kept is %v", l.open)
	}
}
