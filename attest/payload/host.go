package payload

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Host is a host and a port that may be reached.
type Host struct {
	// Name is a lower-case DNS name, or an address as netip writes it.
	Name string
	Port uint16
}

// A name has labels of letters, digits and dashes (RFC 1123, section 2.1), and
// underscores, which some have.
var label = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

const maxHostBytes = 253

// ParseHost reads "name:port", "192.0.2.1:443" or "[2001:db8::1]:443". The
// error is ErrSpec.
func ParseHost(text string) (Host, error) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return Host{}, unusable("host %.80q has no port: want a host and a port, such as example.com:443", text)
	}
	port, err := strconv.ParseUint(text[colon+1:], 10, 16)
	if err != nil {
		return Host{}, unusable("host %.80q: %q is no port", text, text[colon+1:])
	}
	name := text[:colon]
	if bare, ok := strings.CutPrefix(name, "["); ok {
		if name, ok = strings.CutSuffix(bare, "]"); !ok || !strings.Contains(name, ":") {
			return Host{}, unusable("host %.80q: brackets are for an IPv6 address", text)
		}
	} else if strings.Contains(name, ":") {
		return Host{}, unusable("host %.80q: an IPv6 address stands in brackets", text)
	}
	h := Host{Name: name, Port: uint16(port)}
	if err := h.validate(); err != nil {
		return Host{}, unusable("host %.80q: %w", text, err)
	}
	return h, nil
}

// Address is the host where it is an address and no name.
func (h Host) Address() (netip.Addr, bool) {
	a, err := netip.ParseAddr(h.Name)
	return a, err == nil
}

func (h Host) validate() error {
	if h.Port == 0 {
		return fmt.Errorf("the port is 0")
	}
	if a, ok := h.Address(); ok {
		switch {
		case a.Zone() != "" || a.Is4In6() || a.String() != h.Name:
			return fmt.Errorf("%s is not how the address %s is written", h.Name, a.Unmap().WithZone(""))
		case IsNever(a):
			return fmt.Errorf("%s is an address that no payload reaches", a)
		}
		return nil
	}
	labels := strings.Split(h.Name, ".")
	last := labels[len(labels)-1]
	ok := len(h.Name) <= maxHostBytes && last != "" && strings.Trim(last, "0123456789") != ""
	for _, l := range labels {
		ok = ok && label.MatchString(l)
	}
	if !ok {
		return fmt.Errorf("%.80q is neither a lower-case DNS name nor an address", h.Name)
	}
	return nil
}

// Compare orders hosts by name, then port.
func (h Host) Compare(o Host) int {
	return cmp.Or(cmp.Compare(h.Name, o.Name), cmp.Compare(h.Port, o.Port))
}

func (h Host) String() string {
	if strings.Contains(h.Name, ":") {
		return "[" + h.Name + "]:" + strconv.Itoa(int(h.Port))
	}
	return h.Name + ":" + strconv.Itoa(int(h.Port))
}

// MarshalText writes what ParseHost reads.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText is ParseHost.
func (h *Host) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHost(string(text))
	return err
}

// String is the right in words.
func (n Network) String() string {
	if n.Right != Listed {
		return string(n.Right)
	}
	hosts := make([]string, len(n.Hosts))
	for i, h := range n.Hosts {
		hosts[i] = h.String()
	}
	return strings.Join(hosts, ",")
}

// ParseNetwork reads "off", "open", or hosts by commas, in any order. The error
// is ErrSpec.
func ParseNetwork(text string) (Network, error) {
	n := Network{Right: Right(text)}
	if n.Right != Off && n.Right != Open {
		n.Right = Listed
		for one := range strings.SplitSeq(text, ",") {
			h, err := ParseHost(strings.TrimSpace(one))
			if err != nil {
				return Network{}, err
			}
			n.Hosts = append(n.Hosts, h)
		}
		n.sort()
	}
	return n, n.validate()
}

// sort puts hosts into their order, each once.
func (n *Network) sort() {
	slices.SortFunc(n.Hosts, Host.Compare)
	n.Hosts = slices.Compact(n.Hosts)
}
