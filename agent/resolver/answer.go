package resolver

import (
	"context"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Ask is Exchange by the network: a datagram, and a stream where the answer does
// not fit one.
func Ask(ctx context.Context, question *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	got, _, err := (&dns.Client{Net: "udp", UDPSize: payloadBytes}).ExchangeContext(ctx, question, server.String())
	if err == nil && got.Truncated {
		got, _, err = (&dns.Client{Net: "tcp"}).ExchangeContext(ctx, question, server.String())
	}
	return got, err
}

// addresses are those that a name has by an answer, along its aliases, and for
// how many seconds. Records of other names are passed over.
func addresses(m *dns.Msg, name string, kind uint16) (found []netip.Addr, ttl uint32) {
	ttl = 1<<32 - 1
	for range maxChain {
		next := ""
		for _, record := range m.Answer {
			h := record.Header()
			if !strings.EqualFold(h.Name, name) || h.Class != dns.ClassINET {
				continue
			}
			if alias, ok := record.(*dns.CNAME); ok {
				next, ttl = alias.Target, min(ttl, h.Ttl)
			}
			if a, ok := address(record); ok && h.Rrtype == kind && len(found) < maxAddresses {
				found, ttl = append(found, a), min(ttl, h.Ttl)
			}
		}
		if len(found) > 0 || next == "" {
			break
		}
		name = next
	}
	return found, ttl
}

// address is that of an A or AAAA record.
func address(record dns.RR) (netip.Addr, bool) {
	var a netip.Addr
	var ok bool
	switch record := record.(type) {
	case *dns.A:
		if a, ok = netip.AddrFromSlice(record.A); ok {
			a = a.Unmap()
		}
	case *dns.AAAA:
		a, ok = netip.AddrFromSlice(record.AAAA)
	}
	return a, ok
}

func record(name string, a netip.Addr, ttl uint32) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: ttl}, AAAA: a.AsSlice()}
}
