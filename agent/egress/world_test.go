package egress_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/egress"
	"github.com/toolshed-cloud/shed/attest/payload"
)

// The machine and the world outside it are two namespaces, with one link between
// them and nothing else: no packet of these tests has a way out.
var (
	machine4 = netip.MustParsePrefix("10.0.2.15/24")
	machine6 = netip.MustParsePrefix("fec0::15/64")
	outside4 = netip.MustParsePrefix("10.0.2.2/24")
	outside6 = netip.MustParsePrefix("fec0::2/64")
)

const (
	listedPort = 4430
	otherPort  = 4431
	agentPort  = 443
)

// world is a machine with a payload's control group, in a world that answers on
// every address.
type world struct {
	t       *testing.T
	machine *thread
	outside *thread
	group   string
}

// thread runs functions in a network namespace of its own.
type thread struct {
	calls chan func()
	path  string
}

func newThread(t *testing.T) *thread {
	t.Helper()
	th := &thread{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		// It is never unlocked: the thread ends with its namespace.
		runtime.LockOSThread()
		ready <- unix.Unshare(unix.CLONE_NEWNET)
		for f := range th.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	th.do(func() { th.path = fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()) })
	t.Cleanup(func() { close(th.calls) })
	return th
}

func (th *thread) do(f func()) {
	done := make(chan struct{})
	th.calls <- func() { f(); close(done) }
	<-done
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make network namespaces and load filters")
	}
	w := &world{t: t, machine: newThread(t), outside: newThread(t), group: newGroup(t)}
	ns, err := os.Open(w.outside.path)
	must(t, err)
	defer ns.Close()
	w.machine.do(func() {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "machine0"}, PeerName: "outside0", PeerNamespace: netlink.NsFd(int(ns.Fd()))}
		must(t, netlink.LinkAdd(veth))
		setUp(t, "machine0", machine4, machine6)
		setUp(t, "lo")
	})
	w.outside.do(func() {
		setUp(t, "outside0", outside4, outside6, netip.MustParsePrefix("fec0::99/64"), netip.MustParsePrefix("10.0.2.3/24"))
		setUp(t, "lo")
		// Every address is its own.
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		for all, table := range map[string]int{"0.0.0.0/0": unix.RT_TABLE_LOCAL, "::/0": unix.RT_TABLE_MAIN} {
			_, dst, err := net.ParseCIDR(all)
			must(t, err)
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: table, Scope: netlink.SCOPE_HOST}))
		}
		for _, port := range []int{listedPort, otherPort, 53, 80} {
			serve(t, port)
		}
	})
	w.machine.do(func() {
		for _, gateway := range []netip.Prefix{outside4, outside6} {
			must(t, netlink.RouteAdd(&netlink.Route{Gw: gateway.Addr().AsSlice()}))
		}
		serve(t, agentPort)
		carried(t, "machine0")
	})
	w.outside.do(func() { carried(t, "outside0") })
	return w
}

// carried waits until what is sent on a link arrives.
func carried(t *testing.T, name string) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; <-poll.C {
		l, err := netlink.LinkByName(name)
		must(t, err)
		if l.Attrs().OperState == netlink.OperUp {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is %s", name, l.Attrs().OperState)
		}
	}
}

func setUp(t *testing.T, name string, addresses ...netip.Prefix) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err, netlink.LinkSetUp(l))
	for _, a := range addresses {
		address, err := netlink.ParseAddr(a.String())
		must(t, err)
		// There is nobody else on this link to ask.
		address.Flags = unix.IFA_F_NODAD
		must(t, netlink.AddrAdd(l, address))
	}
}

// serve answers on a port of all addresses, of TCP and of UDP.
func serve(t *testing.T, port int) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() { io.Copy(conn, conn); conn.Close() }() //nolint:errcheck // who asked sees it
		}
	}()
	for _, network := range []string{"udp4", "udp6"} {
		c, err := net.ListenUDP(network, &net.UDPAddr{Port: port})
		must(t, err)
		t.Cleanup(func() { c.Close() })
		// The answer has to come from the address that was asked.
		if network == "udp4" {
			must(t, control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1) }))
		} else {
			must(t, control(c, func(fd int) error {
				return errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1), unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1))
			}))
		}
		go echo(c, network == "udp4")
	}
}

func control(c *net.UDPConn, f func(int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func echo(c *net.UDPConn, four bool) {
	b, oob := make([]byte, 1500), make([]byte, 256)
	for {
		n, m, _, from, err := c.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:m])
		if err != nil || len(messages) == 0 {
			continue
		}
		d := messages[0].Data
		var answer []byte
		if four {
			info := &unix.Inet4Pktinfo{Spec_dst: [4]byte(d[8:12])}
			answer = unix.PktInfo4(info)
		} else {
			info := &unix.Inet6Pktinfo{Addr: [16]byte(d[:16])}
			answer = unix.PktInfo6(info)
		}
		c.WriteMsgUDPAddrPort(b[:n], answer, from) //nolint:errcheck // who asked sees it
	}
}

// newGroup makes a control group of version 2.
func newGroup(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	must(t, unix.Mount("none", root, "cgroup2", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(root, 0)) })
	group := filepath.Join(root, fmt.Sprintf("shed-test-%d", os.Getpid()))
	must(t, os.Mkdir(group, 0o755))
	t.Cleanup(func() { must(t, os.Remove(group)) })
	return group
}

// controlPlane is by its two addresses and by its name, which has a third.
var controlPlane = []string{"203.0.113.7", "2001:db8:7::1", "control.example"}

// held makes a filter as a machine does, and puts it on the payload's group.
func (w *world) held(t *testing.T, right payload.Right) *egress.Filter {
	t.Helper()
	f, err := egress.New(right)
	must(t, err, f.Attach(w.group))
	for _, text := range []string{"198.51.100.1", "2001:db8::1", "10.0.2.2"} {
		if refused, err := f.Refused(netip.MustParseAddr(text)); err != nil || !refused {
			t.Errorf("%s is open before anything is known of the machine, error %v", text, err)
		}
	}
	k := &egress.Keeper{
		Filter: f, Hosts: controlPlane, Report: func(err error) { t.Error(err) },
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "control.example" {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{netip.MustParseAddr("203.0.113.8")}, nil
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		// It ends with this thread, which is the machine's.
		runtime.LockOSThread()
		ns, err := os.Open(w.machine.path)
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
		}
		if err == nil {
			err = k.Run(ctx)
		}
		ended <- err
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the keeper ended with %v", err)
		}
		must(t, f.Close())
	})
	w.until(t, f, "198.51.100.1", false)
	return f
}

// until waits until an address is refused, or not.
func (w *world) until(t *testing.T, f *egress.Filter, address string, refused bool) {
	t.Helper()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got, err := f.Refused(netip.MustParseAddr(address))
		must(t, err)
		if got == refused {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: refused %v", address, got)
		}
		<-poll.C
	}
}

// try has the hostile payload try what it can, in the payload's group or out of it.
func (w *world) try(held bool, tries []try) []try {
	w.t.Helper()
	group, err := os.Open(w.group)
	must(w.t, err)
	defer group.Close()
	text, err := json.Marshal(tries)
	must(w.t, err)
	self, err := os.Executable()
	must(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), self)
	cmd.Env = []string{probeVariable + "=" + string(text)}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: held, CgroupFD: int(group.Fd())}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	w.machine.do(func() { err = cmd.Start() })
	must(w.t, err)
	if err := cmd.Wait(); err != nil {
		w.t.Fatalf("the probe: %v\n%s", err, complaint.String())
	}
	var came []try
	must(w.t, json.Unmarshal(out.Bytes(), &came))
	if len(came) != len(tries) {
		w.t.Fatalf("%d tries, %d outcomes", len(tries), len(came))
	}
	return came
}
