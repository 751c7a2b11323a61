package libvirt

import (
	"context"
	"errors"

	libvirt "github.com/digitalocean/go-libvirt"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/providers"
)

// Offerings answers every size on every host, with how many more of it there is
// room for: none on a host that is drained or cannot be reached.
func (p *Provider) Offerings(ctx context.Context) ([]providers.Offering, error) {
	c, err := p.configured()
	if err != nil {
		return nil, err
	}
	out := c.offered()
	rooms := make(map[string]room, len(c.hosts))
	for _, h := range c.hosts {
		if h.Drained {
			continue
		}
		err := h.do(ctx, "seeing what is left", func(l *link) (err error) {
			rooms[h.Name], err = c.room(l)
			return err
		})
		if err != nil {
			p.opts.Log.Warn("host offers nothing", zap.String("host", h.Name), zap.Error(err))
			delete(rooms, h.Name)
		}
	}
	for i, o := range out {
		out[i].Available = rooms[o.Region].holds(o)
	}
	return out, nil
}

// offered is every size on every host, whatever is left there.
func (c *config) offered() []providers.Offering {
	var out []providers.Offering
	for _, h := range c.hosts {
		for _, s := range c.Sizes {
			out = append(out, providers.Offering{Region: h.Name, Size: s.Name, VCPUs: s.VCPUs, MemoryBytes: s.MemoryBytes, Available: -1})
		}
	}
	return out
}

// room is what of a host is not given to any domain.
type room struct {
	vcpus  int64
	memory int64
}

// holds counts the machines of a size that fit.
func (r room) holds(o providers.Offering) int {
	return int(max(0, min(r.vcpus/int64(o.VCPUs), r.memory/o.MemoryBytes)))
}

// room asks a host what it has and what its domains, ours or not, may use of
// it: those that are off too, which can be switched on.
func (c *config) room(l *link) (room, error) {
	_, memory, cpus, _, _, _, _, _, err := l.NodeGetInfo()
	if err != nil {
		return room{}, err
	}
	r := room{vcpus: int64(cpus) * int64(c.CPUOvercommit), memory: int64(memory)<<10 - c.MemoryReserveBytes} //nolint:gosec // KiB of a real host
	domains, _, err := l.ConnectListAllDomains(1, 0)
	if err != nil {
		return room{}, err
	}
	for _, dom := range domains {
		_, most, _, vcpus, _, err := l.DomainGetInfo(dom)
		if is(err, libvirt.ErrNoDomain) {
			continue
		}
		if err != nil {
			return room{}, err
		}
		r.vcpus -= int64(vcpus)
		r.memory -= int64(most) << 10 //nolint:gosec // KiB of a real host
	}
	return r, nil
}

// errFull is CodeCapacity, and the region's.
func errFull(h *host, why string) error {
	return &providers.Error{Code: providers.CodeCapacity, Scope: providers.ScopeRegion, Message: "host " + h.Name + ": " + why}
}

// check refuses a machine that the host has no room for.
func (c *config) check(h *host, l *link, o providers.Offering, dataBytes int64) error {
	r, err := c.room(l)
	if err != nil {
		return err
	}
	if r.holds(o) == 0 {
		return errFull(h, "no processor or memory is left for a "+o.Size)
	}
	_, _, _, available, err := l.StoragePoolGetInfo(l.pool.StoragePool)
	if err != nil {
		return err
	}
	if available < uint64(dataBytes) { //nolint:gosec // it is positive
		return errFull(h, "the storage pool "+h.Pool+" has less left than the data disk may take")
	}
	return nil
}

// port answers one that no domain of ours on the host has.
func (p *Provider) port(c *config, h *host, l *link) (int, error) {
	if h.Network != "" {
		return 0, nil
	}
	used := map[int]bool{}
	domains, _, err := l.ConnectListAllDomains(1, 0)
	if err != nil {
		return 0, err
	}
	for _, dom := range domains {
		if _, ours := machineOf(dom.Name); !ours {
			continue
		}
		t, err := l.readTags(dom)
		var known *providers.Error
		if is(err, libvirt.ErrNoDomain, libvirt.ErrNoDomainMetadata) || errors.As(err, &known) {
			continue
		}
		if err != nil {
			return 0, err
		}
		used[t.Port] = true
	}
	span := c.PortLast - c.PortFirst + 1
	start := p.opts.Rand(span)
	for i := range span {
		if port := c.PortFirst + (start+i)%span; !used[port] {
			return port, nil
		}
	}
	return 0, errFull(h, "every port from port_first to port_last is a machine's")
}
