package egress_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is what the probe waits for an answer that it expects; what is refused
// fails at once. Whether somebody listens in vain takes all of listenPatience.
const (
	patience       = 10 * time.Second
	listenPatience = 500 * time.Millisecond
)

// ready is what a probe that listens says first.
const ready = "ready\n"

// try is one way to reach somebody, and why it failed, if it did.
type try struct {
	Way     string
	Address string
	Port    uint16
	Failed  string
}

func to(way, address string, port uint16) try { return try{Way: way, Address: address, Port: port} }

func (one try) String() string { return fmt.Sprintf("%s %s %d", one.Way, one.Address, one.Port) }

// hostile is a payload that tries, as root, what it was told to.
func hostile(text string) {
	if text == "listen" {
		listen()
		return
	}
	var tries []try
	if err := json.Unmarshal([]byte(text), &tries); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ways := map[string]func(netip.AddrPort) error{"tcp": tryTCP, "udp": tryUDP, "icmp": tryICMP, "raw": tryRaw, "syn": trySYN, "route": tryRoute}
	done := make(chan struct{})
	for i := range tries {
		go func() {
			at := netip.AddrPortFrom(netip.MustParseAddr(tries[i].Address), tries[i].Port)
			if err := ways[tries[i].Way](at); err != nil {
				tries[i].Failed = err.Error()
			}
			done <- struct{}{}
		}()
	}
	for range tries {
		<-done
	}
	if err := json.NewEncoder(os.Stdout).Encode(tries); err != nil {
		os.Exit(1)
	}
}

const greeting = "let me in"

// family is that of the socket: a mapped address goes by IPv6's.
func family(at netip.AddrPort) string {
	if at.Addr().Is4() {
		return "4"
	}
	return "6"
}

// tryTCP makes the socket itself, since Go's own dialer unmaps addresses.
func tryTCP(at netip.AddrPort) error {
	fd, err := unix.Socket(domain(at), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only tried
	wait := unix.NsecToTimeval(int64(patience))
	if err := errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)); err != nil {
		return err
	}
	if err := unix.Connect(fd, sockaddr(at)); err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte(greeting)); err != nil {
		return err
	}
	return heardBack(fd)
}

func tryUDP(at netip.AddrPort) error {
	fd, err := unix.Socket(domain(at), unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only tried
	wait := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	if err := unix.Sendto(fd, []byte(greeting), 0, sockaddr(at)); err != nil {
		return err
	}
	return heardBack(fd)
}

func heardBack(fd int) error {
	b := make([]byte, 64)
	n, err := unix.Read(fd, b)
	if err == nil && string(b[:n]) != greeting {
		err = fmt.Errorf("heard %q", b[:n])
	}
	return err
}

func domain(at netip.AddrPort) int {
	if at.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// tryICMP sends an echo request of its own making.
func tryICMP(at netip.AddrPort) error {
	protocol, request, reply := unix.IPPROTO_ICMP, byte(8), byte(0)
	if !at.Addr().Is4() {
		protocol, request, reply = unix.IPPROTO_ICMPV6, 128, 129
	}
	fd, err := unix.Socket(domain(at), unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only tried
	message := []byte{request, 0, 0, 0, 0x12, 0x34, 0, 1}
	binary.BigEndian.PutUint16(message[2:], ^(uint16(request)<<8 + 0x1234 + 1))
	if err := unix.Sendto(fd, message, 0, sockaddr(netip.AddrPortFrom(at.Addr(), 0))); err != nil {
		return err
	}
	b := make([]byte, 128)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		wait := unix.NsecToTimeval(int64(patience))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return err
		}
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return err
		}
		head := 0
		if at.Addr().Is4() {
			head = 20
		}
		if n > head && b[head] == reply && sameAddress(from, at) {
			return nil
		}
	}
	return syscall.EAGAIN
}

func sameAddress(from unix.Sockaddr, at netip.AddrPort) bool {
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr) == at.Addr()
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr) == at.Addr()
	}
	return false
}

// tryRaw sends a datagram with a header of its own making.
func tryRaw(at netip.AddrPort) error {
	own, err := net.ListenUDP("udp"+family(at), &net.UDPAddr{})
	if err != nil {
		return err
	}
	defer own.Close()
	fd, err := unix.Socket(domain(at), unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only tried
	if !at.Addr().Is4() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_CHECKSUM, 6); err != nil {
			return err
		}
	}
	b := make([]byte, 8, 64)
	binary.BigEndian.PutUint16(b[0:], own.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	binary.BigEndian.PutUint16(b[2:], at.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(greeting)))
	if err := unix.Sendto(fd, append(b, greeting...), 0, sockaddr(netip.AddrPortFrom(at.Addr(), 0))); err != nil {
		return err
	}
	if err := own.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err = own.Read(make([]byte, 64))
	return err
}

// trySYN begins a connection past the hook on connecting. That it leaves is
// enough: nobody is there to go on with it.
func trySYN(at netip.AddrPort) error {
	fd, err := unix.Socket(domain(at), unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only tried
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b[0:], 40000)
	binary.BigEndian.PutUint16(b[2:], at.Port())
	b[12], b[13] = 5<<4, 0x02
	return unix.Sendto(fd, b, 0, sockaddr(netip.AddrPortFrom(at.Addr(), 0)))
}

// tryRoute has a datagram go on from its address to the host's, by an option of
// its header (RFC 791, loose source route). That it leaves is enough.
func tryRoute(at netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // it was only tried
	option := []byte{131, 7, 4, 10, 0, 2, 2, 1}
	if err := unix.SetsockoptString(fd, unix.IPPROTO_IP, unix.IP_OPTIONS, string(option)); err != nil {
		return err
	}
	return unix.Sendto(fd, []byte(greeting), 0, sockaddr(at))
}

// listen says what it hears on port 5000 once its input ends.
func listen() {
	l, err := net.Listen("tcp", ":5000")
	if err != nil {
		os.Exit(1)
	}
	c, err := net.ListenPacket("udp", ":5000")
	if err != nil {
		os.Exit(1)
	}
	heard := make(chan string, 8)
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			b, _ := io.ReadAll(conn) //nolint:errcheck // what came counts
			heard <- string(b)
		}
	}()
	go func() {
		b := make([]byte, 64)
		for n, _, err := c.ReadFrom(b); err == nil; n, _, err = c.ReadFrom(b) {
			heard <- string(b[:n])
		}
	}()
	os.Stdout.WriteString(ready)  //nolint:errcheck // the test sees what is missing
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // its end counts
	var all []string
	for wait := time.After(listenPatience); ; {
		select {
		case text := <-heard:
			all = append(all, text)
			continue
		case <-wait:
		}
		break
	}
	slices.Sort(all)
	os.Stdout.WriteString(strings.Join(all, ", ")) //nolint:errcheck // the test sees what is missing
}
