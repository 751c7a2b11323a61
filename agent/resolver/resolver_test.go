package resolver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/toolshed-cloud/shed/agent/resolver"
	"github.com/toolshed-cloud/shed/attest/payload"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// filter refuses as a machine's does, and notes what is granted.
type filter struct {
	granted []string
	full    bool
}

func (*filter) Refused(a netip.Addr) (bool, error) {
	return payload.IsNever(a) || netip.MustParsePrefix("10.0.2.0/24").Contains(a.Unmap()), nil
}

func (f *filter) Grant(a netip.Addr, port uint16, until time.Time) error {
	if f.full {
		return errors.New("full")
	}
	f.granted = append(f.granted, fmt.Sprintf("%s:%d for %s", a, port, until.Sub(start)))
	return nil
}

func (*filter) Expire(time.Time) error { return nil }

// upstream is a name server that notes what it was asked.
type upstream struct {
	zone   []string
	rcode  int
	asked  []string
	change func(*dns.Msg)
}

func (u *upstream) exchange(_ context.Context, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	if server.Port() == 1 {
		return nil, errors.New("no route")
	}
	u.asked = append(u.asked, q.Question[0].Name+" "+dns.TypeToString[q.Question[0].Qtype])
	m := new(dns.Msg).SetRcode(q, u.rcode)
	for _, text := range u.zone {
		record, err := dns.NewRR(text)
		if err != nil {
			return nil, err
		}
		m.Answer = append(m.Answer, record)
	}
	if u.change != nil {
		u.change(m)
	}
	return m, nil
}

func newResolver(right string, u *upstream) (*resolver.Resolver, *filter) {
	n, err := payload.ParseNetwork(right)
	if err != nil {
		panic(err)
	}
	f := &filter{}
	return &resolver.Resolver{
		Network: n, Filter: f, Exchange: u.exchange, Now: func() time.Time { return start }, Hidden: []string{"control.example"},
		Servers: func() []netip.AddrPort {
			return []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:53")}
		},
	}, f
}

func ask(t *testing.T, r *resolver.Resolver, name string, kind uint16) string {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, kind)
	a := r.Answer(t.Context(), q)
	if a.Id != q.Id || !a.Response {
		t.Errorf("%s: the answer is to another question", name)
	}
	said := []string{dns.RcodeToString[a.Rcode]}
	for _, record := range a.Answer {
		said = append(said, strings.ReplaceAll(record.String(), "\t", " "))
	}
	return strings.Join(said, "; ")
}

// A listed name is looked up, and what it resolves to is granted, on its ports and
// for as long as the answer holds; nothing else is asked.
func TestListed(t *testing.T) {
	const right = "a.example:443,a.example:80,b.example:1"
	for _, c := range []struct {
		about, name string
		kind        uint16
		zone        []string
		rcode       int
		want        string
		granted     []string
		asked       []string
	}{
		{"an address", "A.example.", dns.TypeA, []string{"a.example. 600 IN A 198.51.100.1"}, 0, "NOERROR; A.example. 600 IN A 198.51.100.1",
			[]string{"198.51.100.1:80 for 10m0s", "198.51.100.1:443 for 10m0s"}, []string{"a.example. A"}},
		{"one of IPv6", "b.example.", dns.TypeAAAA, []string{"b.example. 1 IN AAAA 2001:db8::1"}, 0, "NOERROR; b.example. 1 IN AAAA 2001:db8::1",
			[]string{"2001:db8::1:1 for 5m0s"}, []string{"b.example. AAAA"}},
		{"for years", "b.example.", dns.TypeA, []string{"b.example. 90000000 IN A 198.51.100.1"}, 0, "NOERROR; b.example. 90000000 IN A 198.51.100.1",
			[]string{"198.51.100.1:1 for 24h0m0s"}, []string{"b.example. A"}},
		{"aliases", "b.example.", dns.TypeA, []string{"c.example. 900 IN A 198.51.100.3", "b.example. 700 IN CNAME c.example.", "d.example. 9 IN A 198.51.100.4"}, 0,
			"NOERROR; b.example. 700 IN A 198.51.100.3", []string{"198.51.100.3:1 for 11m40s"}, []string{"b.example. A"}},
		{"an alias of itself", "b.example.", dns.TypeA, []string{"b.example. 9 IN CNAME b.example."}, 0, "NOERROR", nil, []string{"b.example. A"}},
		{"another's records", "b.example.", dns.TypeA, []string{"x.example. 9 IN A 198.51.100.3", "b.example. 9 IN AAAA 2001:db8::1"}, 0, "NOERROR", nil, []string{"b.example. A"}},
		{"another name", "x.a.example.", dns.TypeA, nil, 0, "NXDOMAIN", nil, nil},
		{"secrets", "c2VjcmV0.a.example.", dns.TypeTXT, nil, 0, "NXDOMAIN", nil, nil},
		{"other records", "a.example.", dns.TypeTXT, nil, 0, "NOERROR", nil, nil},
		{"the control plane", "Control.example.", dns.TypeA, nil, 0, "REFUSED", nil, nil},
		{"no such name", "b.example.", dns.TypeA, nil, dns.RcodeNameError, "NXDOMAIN", nil, []string{"b.example. A"}},
		{"a server's failure", "b.example.", dns.TypeA, nil, dns.RcodeServerFailure, "SERVFAIL", nil, []string{"b.example. A"}},
		{"rebinding", "b.example.", dns.TypeA, []string{"b.example. 9 IN A 127.0.0.1", "b.example. 9 IN A 10.0.2.2", "b.example. 9 IN A 169.254.169.254"}, 0, "REFUSED", nil, []string{"b.example. A"}},
		{"rebinding in part", "b.example.", dns.TypeA, []string{"b.example. 9 IN A 10.0.2.2", "b.example. 9 IN A 198.51.100.9"}, 0, "NOERROR; b.example. 9 IN A 198.51.100.9",
			[]string{"198.51.100.9:1 for 5m0s"}, []string{"b.example. A"}},
		{"rebinding by IPv6", "b.example.", dns.TypeAAAA, []string{"b.example. 9 IN AAAA ::ffff:10.0.2.2", "b.example. 9 IN AAAA ::1", "b.example. 9 IN AAAA 64:ff9b::a9fe:a9fe"}, 0, "REFUSED", nil, []string{"b.example. AAAA"}},
	} {
		u := &upstream{zone: c.zone, rcode: c.rcode}
		r, f := newResolver(right, u)
		if got := ask(t, r, c.name, c.kind); got != c.want || !slices.Equal(f.granted, c.granted) || !slices.Equal(u.asked, c.asked) {
			t.Errorf("%s: %s, granted %q, asked %q", c.about, got, f.granted, u.asked)
		}
	}
}

// Where an answer is another's, or cannot be granted, there is none.
func TestNoAnswer(t *testing.T) {
	for about, change := range map[string]func(*dns.Msg){
		"another id":       func(m *dns.Msg) { m.Id++ },
		"another question": func(m *dns.Msg) { m.Question[0].Name = "c.example." },
		"another type":     func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		"a question":       func(m *dns.Msg) { m.Response = false },
		"no question":      func(m *dns.Msg) { m.Question = nil },
	} {
		r, f := newResolver("b.example:1", &upstream{zone: []string{"b.example. 9 IN A 198.51.100.9"}, change: change})
		if got := ask(t, r, "b.example.", dns.TypeA); got != "SERVFAIL" || f.granted != nil {
			t.Errorf("%s: %s, granted %q", about, got, f.granted)
		}
	}
	r, f := newResolver("b.example:1", &upstream{zone: []string{"b.example. 9 IN A 198.51.100.9"}})
	f.full = true
	if got := ask(t, r, "b.example.", dns.TypeA); got != "SERVFAIL" {
		t.Errorf("a full filter: %s", got)
	}
}

// With the right to all, all is looked up but addresses that nobody reaches.
func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name string
		kind uint16
		zone []string
		want string
	}{
		{"any.example.", dns.TypeTXT, []string{`any.example. 9 IN TXT "x"`}, `NOERROR; any.example. 9 IN TXT "x"`},
		{"any.example.", dns.TypeA, []string{"any.example. 9 IN CNAME o.example.", "o.example. 9 IN A 198.51.100.1", "o.example. 9 IN A 169.254.169.254"},
			"NOERROR; any.example. 9 IN CNAME o.example.; o.example. 9 IN A 198.51.100.1"},
		{"any.example.", dns.TypeA, []string{"any.example. 9 IN CNAME o.example.", "o.example. 9 IN A 169.254.169.254"}, "REFUSED"},
		{"any.example.", dns.TypeANY, nil, "REFUSED"}, {"any.example.", dns.TypeAXFR, nil, "REFUSED"}, {"control.example.", dns.TypeA, nil, "REFUSED"},
	} {
		r, f := newResolver("open", &upstream{zone: c.zone})
		if got := ask(t, r, c.name, c.kind); got != c.want || f.granted != nil {
			t.Errorf("%s %s: %s, granted %q", c.name, dns.TypeToString[c.kind], got, f.granted)
		}
	}
	u := &upstream{}
	r, _ := newResolver("off", u)
	if got := ask(t, r, "any.example.", dns.TypeA); got != "REFUSED" || u.asked != nil {
		t.Errorf("without a right: %s, asked %q", got, u.asked)
	}
}

func TestOddQuestions(t *testing.T) {
	for about, change := range map[string]func(*dns.Msg){
		"an answer":      func(m *dns.Msg) { m.Response = true },
		"two questions":  func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
		"no question":    func(m *dns.Msg) { m.Question = nil },
		"another class":  func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"another opcode": func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate },
	} {
		u := &upstream{}
		r, _ := newResolver("open", u)
		q := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
		change(q)
		if a := r.Answer(t.Context(), q); a.Rcode != dns.RcodeNotImplemented || u.asked != nil {
			t.Errorf("%s: %v, asked %q", about, a, u.asked)
		}
	}
}

// A real client asks over both, and a long answer is cut for a datagram.
func TestServe(t *testing.T) {
	u := &upstream{}
	for i := range 60 {
		u.zone = append(u.zone, fmt.Sprintf(`long.example. 9 IN TXT "%060d"`, i))
	}
	r, _ := newResolver("open", u)
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Serve(ctx, datagrams, streams) }()
	q := new(dns.Msg).SetQuestion("long.example.", dns.TypeTXT)
	got, _, err := (&dns.Client{Net: "udp"}).ExchangeContext(ctx, q, datagrams.LocalAddr().String())
	if err != nil || !got.Truncated || len(got.Answer) >= 60 {
		t.Errorf("by datagram: %d records, error %v", len(got.Answer), err)
	}
	got, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, q, streams.Addr().String())
	if err != nil || len(got.Answer) != 60 {
		t.Errorf("by stream: %v, error %v", got, err)
	}
	// The machine's own way to ask is that of a client too.
	asked, err := resolver.Ask(ctx, q, netip.MustParseAddrPort(datagrams.LocalAddr().String()))
	if err == nil {
		t.Errorf("nothing listens for streams at the port of datagrams, and %d records came", len(asked.Answer))
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
}

// Whatever the payload asks and the network answers, nothing is granted but
// addresses that are not refused.
func FuzzAnswer(f *testing.F) {
	pack := func(m *dns.Msg) []byte {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	q := new(dns.Msg).SetQuestion("b.example.", dns.TypeA)
	a := new(dns.Msg).SetReply(q)
	for _, text := range []string{"b.example. 9 IN CNAME c.example.", "c.example. 9 IN A 127.0.0.1", "c.example. 9 IN A 198.51.100.1"} {
		record, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		a.Answer = append(a.Answer, record)
	}
	f.Add(pack(q), pack(a))
	f.Fuzz(func(t *testing.T, question, answer []byte) {
		var q, a dns.Msg
		if q.Unpack(question) != nil || a.Unpack(answer) != nil {
			return
		}
		r, granted := newResolver("b.example:1", &upstream{})
		r.Exchange = func(_ context.Context, asked *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
			a.Id, a.Question = asked.Id, asked.Question
			return &a, nil
		}
		r.Answer(t.Context(), &q)
		for _, text := range granted.granted {
			address, _, _ := strings.Cut(text, " for ")
			if got, err := netip.ParseAddr(address[:strings.LastIndexByte(address, ':')]); err != nil || payload.IsNever(got) {
				t.Fatalf("granted %s", text)
			}
		}
	})
}
