package payload

import (
	"net/netip"
	"slices"
)

// never are the addresses that no right grants (IANA's special-purpose
// registries of IPv4 and IPv6, RFC 6890, and what clouds document of theirs).
// Private ones are not among them: whoever lists a database of the same network
// means it, and what lies on the machine's own link is refused by where that is.
var never = prefixes(
	// This host, loopback, link-local with the metadata address that most
	// clouds share, protocol assignments, multicast, reserved and broadcast.
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/4", "240.0.0.0/4",
	// Metadata and wire servers: Azure's, Alibaba's.
	"168.63.129.16/32", "100.100.100.200/32",
	// Unspecified, loopback and addresses with IPv4 ones inside that no stack
	// sends to; discard; link-local, site-local (QEMU's user network) and
	// multicast.
	"::/96", "::ffff:0:0:0/96", "100::/64", "fe80::/10", "fec0::/10", "ff00::/8",
	// Ways into IPv4 that hide where: Teredo, and a network's own NAT64.
	"2001::/32", "64:ff9b:1::/48",
	// Metadata: EC2's with its clock and resolver, Google's, Oracle's, Scaleway's.
	"fd00:ec2::/32", "fd20:ce::/64", "fd00:c1::/32", "fd00:42::42/128",
)

// embeddings are where IPv6 has IPv4 addresses inside: NAT64 (RFC 6052) and 6to4
// (RFC 3056).
var embeddings = prefixes("64:ff9b::/96", "2002::/16")

// Never are the addresses that no payload reaches on any machine. Each machine
// adds its own link, itself and its control plane.
func Never() []netip.Prefix { return Refuse(slices.Clone(never)) }

// IsNever says whether an address is one of Never.
func IsNever(a netip.Addr) bool {
	return slices.ContainsFunc(Never(), func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// Refuse adds to IPv4 prefixes the IPv6 ones that lead to them.
func Refuse(all []netip.Prefix) []netip.Prefix {
	for _, p := range all {
		if !p.Addr().Is4() {
			continue
		}
		four := p.Addr().As4()
		for _, e := range embeddings {
			b := e.Addr().As16()
			copy(b[e.Bits()/8:], four[:])
			all = append(all, netip.PrefixFrom(netip.AddrFrom16(b), e.Bits()+p.Bits()))
		}
	}
	return all
}

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}
