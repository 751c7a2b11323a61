package fetch

import "net/netip"

// notPublic are the ranges that no server for everybody is in (IANA's registries
// of special-purpose addresses), beside what netip knows by itself.
var notPublic = prefixes(
	"0.0.0.0/8",                         // this network
	"100.64.0.0/10",                     // carriers' NAT, and a cloud's metadata
	"192.0.0.0/24",                      // protocol assignments, and a cloud's metadata
	"192.0.2.0/24",                      // documentation
	"192.88.99.0/24",                    // 6to4 relays
	"198.18.0.0/15",                     // benchmarks
	"198.51.100.0/24", "203.0.113.0/24", // documentation
	"240.0.0.0/4",      // reserved, and broadcast
	"168.63.129.16/32", // a cloud's platform, reachable from its machines alone
	"2001::/23",        // Teredo, ORCHID and other assignments
	"2001:db8::/32",    // documentation
	"2002::/16",        // 6to4: an IPv4 address is embedded
	"3fff::/20",        // documentation
)

// global is where all public IPv6 addresses are.
var global = netip.MustParsePrefix("2000::/3")

// nat64 embeds an IPv4 address in its last four bytes (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

// Public reports whether an address is one that servers for everybody have.
func Public(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	a = a.Unmap()
	if nat64.Contains(a) {
		b := a.As16()
		return Public(netip.AddrFrom4([4]byte(b[12:])))
	}
	if a.Is6() && !global.Contains(a) {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsGlobalUnicast() && !a.IsPrivate()
}
