package libvirt

import (
	"context"
	"fmt"
	"net"
	"strconv"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// found is a machine that is there.
type found struct {
	host *host
	dom  libvirt.Domain
	tags
}

// find looks for a machine on every host at once. CodeNotFound is said only
// when all have answered.
func (p *Provider) find(ctx context.Context, c *config, id providers.MachineID) (found, error) {
	if err := sdk.CheckID("machine", id); err != nil {
		return found{}, err
	}
	type answer struct {
		found *found
		err   error
	}
	answers := make(chan answer, len(c.hosts))
	for _, h := range c.hosts {
		go func() {
			f, err := h.lookup(ctx, id)
			answers <- answer{f, err}
		}()
	}
	missing := sdk.NotFound(id)
	for range c.hosts {
		a := <-answers
		if a.found != nil {
			return *a.found, nil
		}
		if a.err != nil {
			missing = asking(a.err)
		}
	}
	return found{}, missing
}

// lookup answers nil where the machine is not on the host.
func (h *host) lookup(ctx context.Context, id providers.MachineID) (out *found, err error) {
	err = h.do(ctx, "looking for a machine", func(l *link) error {
		dom, err := l.DomainLookupByName(domainName(id))
		if is(err, libvirt.ErrNoDomain) {
			return nil
		}
		if err != nil {
			return err
		}
		t, err := l.readTags(dom)
		if is(err, libvirt.ErrNoDomain) {
			return nil
		}
		if is(err, libvirt.ErrNoDomainMetadata) {
			return providers.Errorf(providers.CodeConflict, "host %s: the domain %s does not carry our tags, and is not touched", h.Name, dom.Name)
		}
		if err != nil {
			return err
		}
		if t.Machine != id {
			return providers.Errorf(providers.CodeConflict, "host %s: the domain %s says that it is machine %s", h.Name, dom.Name, t.Machine)
		}
		out = &found{h, dom, t}
		return nil
	})
	return out, err
}

func (l *link) readTags(dom libvirt.Domain) (tags, error) {
	text, err := l.DomainGetMetadata(dom, int32(libvirt.DomainMetadataElement), libvirt.OptString{tagsNamespace}, libvirt.DomainAffectConfig)
	if err != nil {
		return tags{}, err
	}
	t, err := parseTags(text)
	if err != nil {
		return t, providers.Errorf(providers.CodeInternal, "domain %s: %s", dom.Name, err)
	}
	return t, nil
}

func (l *link) writeTags(dom libvirt.Domain, t tags) error {
	text, err := t.encode()
	if err != nil {
		return err
	}
	return l.DomainSetMetadata(dom, int32(libvirt.DomainMetadataElement), libvirt.OptString{text},
		libvirt.OptString{tagsPrefix}, libvirt.OptString{tagsNamespace}, libvirt.DomainAffectConfig)
}

// observe answers the machine as it is now, and what must be done to it that
// nobody does.
func (f found) observe(l *link) (m providers.Machine, due due, err error) {
	state, why, err := l.state(f.dom)
	if err != nil {
		return m, nothingDue, err
	}
	m = providers.Machine{
		ID: f.Machine, Installation: f.Installation, SpecHash: f.SpecHash, Release: f.Release, Generation: f.Generation,
		Region: f.host.Name, Size: f.Size, CreatedAt: f.CreatedAt,
		Endpoint: f.endpoint(l),
	}
	m.Power, m.Reason, due = f.power(state, why)
	if m.Drift, err = l.drift(f.dom, f.tags); err != nil {
		return m, due, err
	}
	m.Resources, err = f.resources(l, m.Endpoint)
	return m, due, err
}

// due is what a machine still waits for.
type due int

const (
	nothingDue due = iota
	startDue
	stopDue
)

// power says what a machine does, why where it is not what was asked for, and
// what is still to be done.
func (t tags) power(state libvirt.DomainState, why string) (providers.Power, string, due) {
	on := active(state)
	switch {
	case t.Deleting:
		return providers.PowerPending, "it is being deleted", nothingDue
	case !t.Made:
		return providers.PowerPending, "it is being made", nothingDue
	case !t.On && on:
		return providers.PowerPending, "", stopDue
	case !t.On:
		return providers.PowerOff, "", nothingDue
	case on && state == libvirt.DomainShutdown:
		return providers.PowerPending, "", nothingDue
	case on:
		return providers.PowerOn, why, nothingDue
	case !t.Started:
		return providers.PowerPending, "", startDue
	case t.Failure != "":
		return providers.PowerCrashed, t.Failure, nothingDue
	case why == "":
		return providers.PowerCrashed, "it is off, and the host does not know why", nothingDue
	}
	return providers.PowerCrashed, why, nothingDue
}

// endpoint is where the machine is reached; empty while that is not known.
func (f found) endpoint(l *link) string {
	if f.host.Network == "" && f.Port != 0 {
		return f.host.endpoint(f.Port)
	}
	for _, source := range []libvirt.DomainInterfaceAddressesSource{libvirt.DomainInterfaceAddressesSrcLease, libvirt.DomainInterfaceAddressesSrcArp} {
		interfaces, err := l.DomainInterfaceAddresses(f.dom, uint32(source), 0)
		if err != nil {
			continue
		}
		for _, i := range interfaces {
			for _, a := range i.Addrs {
				if ip := net.ParseIP(a.Addr); ip.To4() != nil {
					return net.JoinHostPort(a.Addr, strconv.Itoa(guestPort))
				}
			}
		}
	}
	return ""
}

// guestPort is the one that machines listen on.
const guestPort = 443

func (f found) resources(l *link, endpoint string) ([]providers.Resource, error) {
	out := []providers.Resource{{Kind: providers.ResourceMachine, ID: f.host.Name + "/" + f.dom.Name, Machine: f.Machine}}
	if endpoint != "" {
		out = append(out, providers.Resource{Kind: providers.ResourceAddress, ID: endpoint, Machine: f.Machine})
	}
	all, err := l.inventory()
	if err != nil {
		return nil, fmt.Errorf("listing volumes: %w", err)
	}
	volumes, err := f.host.resources(l, f.Machine, of(all, f.Machine))
	return append(out, volumes...), err
}

// Get answers a machine as it is now, and takes up what a provider that was
// killed has left undone.
func (p *Provider) Get(ctx context.Context, id providers.MachineID) (providers.Machine, error) {
	c, err := p.configured()
	if err != nil {
		return providers.Machine{}, err
	}
	f, err := p.find(ctx, c, id)
	if err != nil {
		return providers.Machine{}, err
	}
	return p.see(ctx, c, f)
}

// see observes a machine, and begins what is due.
func (p *Provider) see(ctx context.Context, c *config, f found) (m providers.Machine, err error) {
	var next due
	err = f.host.do(ctx, "looking at a machine", func(l *link) error {
		m, next, err = f.observe(l)
		return err
	})
	if providers.CodeOf(err) == providers.CodeNotFound {
		return m, sdk.NotFound(f.Machine)
	}
	if err != nil {
		return m, asking(err)
	}
	switch next {
	case startDue:
		p.background(f.Machine, func(ctx context.Context) { p.finishStart(ctx, c, f.Machine) })
	case stopDue:
		p.background(f.Machine, func(ctx context.Context) { p.finishStop(ctx, c, f) })
	}
	return m, nil
}
