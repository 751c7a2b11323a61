package egress_test

import (
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/toolshed-cloud/shed/attest/payload"
)

// probeVariable has this program be the hostile payload: what it holds is where
// it may try.
const probeVariable = "SHED_TEST_PROBE"

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(probeVariable); ok {
		hostile(text)
		return
	}
	os.Exit(m.Run())
}

func reached(tries []try) (yes, no []string) {
	for _, one := range tries {
		if one.Failed == "" {
			yes = append(yes, one.String())
		} else {
			no = append(no, one.String()+": "+one.Failed)
		}
	}
	return yes, no
}

// What no payload reaches, by every way that a program has; each way leads there
// where the filter does not hold it.
func TestNobodyReachesThese(t *testing.T) {
	w := newWorld(t)
	var tries []try
	for _, a := range []string{
		// The host's loopback and the control plane, as QEMU's user network shows
		// them, and others of the link.
		"10.0.2.2", "10.0.2.3", "fec0::2", "fec0::99", "::ffff:10.0.2.2",
		// Metadata and link-local addresses.
		"169.254.169.254", "169.254.1.1", "::ffff:169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "fd00:c1::a9fe:a9fe",
		"192.0.0.192", "fec0:1::1",
		// IPv6 that leads to IPv4.
		"64:ff9b::a9fe:a9fe", "64:ff9b::a00:202", "64:ff9b:1::1", "2002:a9fe:a9fe::1", "2001::1",
		// Another control plane, of a public address.
		"203.0.113.7", "203.0.113.8", "2001:db8:7::1", "::ffff:203.0.113.7", "64:ff9b::cb00:7107",
	} {
		tries = append(tries, to("tcp", a, listedPort), to("udp", a, listedPort), to("tcp", a, 80), to("udp", a, 53), to("raw", a, listedPort), to("syn", a, listedPort))
		if !strings.Contains(a, "ffff") {
			tries = append(tries, to("icmp", a, 0))
		}
	}
	for _, a := range []string{"127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "10.0.2.15", "fec0::15"} {
		tries = append(tries, to("tcp", a, agentPort), to("udp", a, agentPort))
	}
	tries = slices.DeleteFunc(tries, func(one try) bool {
		return (one.Way == "raw" || one.Way == "syn") && strings.Contains(one.Address, "ffff")
	})
	// A way round an address that is refused, and to one that is not.
	tries = append(tries, to("route", "198.51.100.1", listedPort))
	if _, no := reached(w.try(false, tries)); len(no) > 0 {
		t.Fatalf("not reached without the filter, so that this test shows nothing:\n%s", strings.Join(no, "\n"))
	}
	for _, right := range []payload.Right{payload.Off, payload.Listed, payload.Open} {
		t.Run(string(right), func(t *testing.T) {
			f := w.held(t, right)
			// Not even a grant leads there.
			for _, one := range tries {
				must(t, f.Grant(netip.MustParseAddr(one.Address), one.Port, time.Time{}))
			}
			came := w.try(true, tries)
			if yes, _ := reached(came[:len(came)-1]); len(yes) > 0 {
				t.Errorf("reached:\n%s", strings.Join(yes, "\n"))
			}
			if came[len(came)-1].Failed == "" {
				t.Error("a source route leads past the filter")
			}
		})
	}
}

// Each right reaches what it grants, and no more.
func TestRights(t *testing.T) {
	w := newWorld(t)
	granted := []try{
		to("tcp", "198.51.100.1", listedPort), to("udp", "198.51.100.1", listedPort), to("tcp", "2001:db8::1", listedPort), to("udp", "2001:db8::1", listedPort),
		to("tcp", "::ffff:198.51.100.1", listedPort), to("udp", "::ffff:198.51.100.1", listedPort),
	}
	others := []try{
		to("tcp", "198.51.100.1", otherPort), to("udp", "198.51.100.1", otherPort), to("tcp", "198.51.100.2", listedPort), to("udp", "198.51.100.2", listedPort),
		to("tcp", "2001:db8::1", otherPort), to("udp", "2001:db8::2", listedPort), to("tcp", "2001:db8::2", listedPort), to("udp", "198.51.100.2", 53), to("tcp", "2001:db8::1", 53),
		to("syn", "198.51.100.2", listedPort), to("syn", "2001:db8::1", otherPort),
	}
	never := []try{to("icmp", "198.51.100.1", 0), to("icmp", "2001:db8::1", 0)}
	if _, no := reached(w.try(false, slices.Concat(granted, others, never))); len(no) > 0 {
		t.Fatalf("not reached without the filter, so that this test shows nothing:\n%s", strings.Join(no, "\n"))
	}
	for _, c := range []struct {
		right   payload.Right
		yes, no []try
	}{
		{payload.Off, nil, slices.Concat(granted, others)},
		{payload.Listed, granted, others},
		{payload.Open, slices.Concat(granted, others), nil},
	} {
		t.Run(string(c.right), func(t *testing.T) {
			f := w.held(t, c.right)
			for _, a := range []string{"198.51.100.1", "2001:db8::1"} {
				must(t, f.Grant(netip.MustParseAddr(a), listedPort, time.Time{}))
			}
			if _, no := reached(w.try(true, c.yes)); len(no) > 0 {
				t.Errorf("not reached:\n%s", strings.Join(no, "\n"))
			}
			if yes, _ := reached(w.try(true, append(c.no, never...))); len(yes) > 0 {
				t.Errorf("reached:\n%s", strings.Join(yes, "\n"))
			}
		})
	}
}

// A grant ends, and what is connected by then stays so; one for good does not.
func TestGrantsEnd(t *testing.T) {
	w := newWorld(t)
	f := w.held(t, payload.Listed)
	now := time.Now()
	short, long, forever := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.3")
	must(t, f.Grant(short, listedPort, now.Add(time.Minute)), f.Grant(long, listedPort, now.Add(time.Minute)), f.Grant(long, listedPort, now.Add(time.Hour)),
		f.Grant(long, listedPort, now.Add(time.Second)), f.Grant(forever, listedPort, time.Time{}), f.Grant(forever, listedPort, now))
	must(t, f.Expire(now.Add(time.Minute)))
	came := w.try(true, []try{to("tcp", short.String(), listedPort), to("tcp", long.String(), listedPort), to("tcp", forever.String(), listedPort)})
	if came[0].Failed == "" || came[1].Failed != "" || came[2].Failed != "" {
		t.Errorf("%+v", came)
	}
	must(t, f.Expire(now.Add(time.Hour)))
	if came := w.try(true, []try{to("tcp", long.String(), listedPort)}); came[0].Failed == "" {
		t.Errorf("%+v", came)
	}
}

// Nothing from outside reaches what the payload listens on, and what asks it from
// its own machine does.
func TestUnaskedIsNotHeard(t *testing.T) {
	w := newWorld(t)
	if got := w.heard(false); got != "machine tcp, outside tcp, outside udp" {
		t.Fatalf("without the filter it hears %q, so that this test shows nothing", got)
	}
	w.held(t, payload.Open)
	if got := w.heard(true); got != "machine tcp" {
		t.Errorf("it hears %q", got)
	}
}

// heard is what a payload hears that listens on all addresses.
func (w *world) heard(held bool) string {
	w.t.Helper()
	group, err := os.Open(w.group)
	must(w.t, err)
	defer group.Close()
	self, err := os.Executable()
	must(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), self)
	cmd.Env = []string{probeVariable + "=listen"}
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: held, CgroupFD: int(group.Fd())}
	in, err := cmd.StdinPipe()
	must(w.t, err)
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	w.machine.do(func() { err = cmd.Start() })
	must(w.t, err)
	_, err = io.ReadFull(out, make([]byte, len(ready)))
	must(w.t, err)
	say := func(network, address, text string) {
		if conn, err := net.DialTimeout(network, address, listenPatience); err == nil {
			io.WriteString(conn, text) //nolint:errcheck // what arrives counts
			conn.Close()
		}
	}
	w.outside.do(func() {
		say("tcp", "10.0.2.15:5000", "outside tcp")
		say("udp", "10.0.2.15:5000", "outside udp")
	})
	w.machine.do(func() { say("tcp", "127.0.0.1:5000", "machine tcp") })
	must(w.t, in.Close())
	heard, err := io.ReadAll(out)
	must(w.t, err, cmd.Wait())
	return string(heard)
}

// A gateway that is on none of the links is refused too.
func TestGatewayElsewhere(t *testing.T) {
	w := newWorld(t)
	gateway := netip.MustParseAddr("198.51.100.77")
	w.machine.do(func() {
		l, err := netlink.LinkByName("machine0")
		must(t, err)
		_, dst, err := net.ParseCIDR("198.18.0.0/15")
		must(t, err, netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst, Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}))
	})
	f := w.held(t, payload.Open)
	if refused, err := f.Refused(gateway); err != nil || !refused {
		t.Errorf("it is open, error %v", err)
	}
	if refused, err := f.Refused(gateway.Next()); err != nil || refused {
		t.Errorf("its neighbour is refused, error %v", err)
	}
}

// A link that comes later is refused as well, with those on it.
func TestLinksThatCome(t *testing.T) {
	w := newWorld(t)
	f := w.held(t, payload.Open)
	tries := []try{to("tcp", "172.20.1.9", listedPort), to("tcp", "2001:db8:20::9", listedPort)}
	if _, no := reached(w.try(true, tries)); len(no) > 0 {
		t.Fatalf("not reached: %q", no)
	}
	w.machine.do(func() {
		setUp(t, "machine0", netip.MustParsePrefix("172.20.0.15/16"), netip.MustParsePrefix("2001:db8:20::15/64"))
	})
	w.until(t, f, "172.20.1.9", true)
	w.until(t, f, "2001:db8:20::9", true)
	if yes, _ := reached(w.try(true, tries)); len(yes) > 0 {
		t.Errorf("reached: %q", yes)
	}
}
