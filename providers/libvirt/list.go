package libvirt

import (
	"context"
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// List tells of machines and of what is left of others, in the order of their
// ids, on whatever host they are. A host that does not answer is an error: what
// is there would look as if it were gone.
func (p *Provider) List(ctx context.Context, installation providers.InstallationID, page string) (out providers.Page, err error) {
	c, err := p.configured()
	if err != nil {
		return out, err
	}
	if err := sdk.CheckID("installation", installation); err != nil {
		return out, err
	}
	if page != "" {
		if err := sdk.CheckID("page", page); err != nil {
			return out, err
		}
	}
	all := map[providers.MachineID][]providers.Resource{}
	for _, h := range c.hosts {
		err := h.do(ctx, "listing", func(l *link) error { return h.list(l, installation, all) })
		if err != nil {
			return providers.Page{}, asking(err)
		}
	}
	var ids []providers.MachineID
	for id := range all {
		ids = append(ids, id)
	}
	ids, out.Next = sdk.Page(ids, page)
	for _, id := range ids {
		out.Resources = append(out.Resources, all[id]...)
	}
	return out, nil
}

// list adds what is on one host.
func (h *host) list(l *link, installation providers.InstallationID, all map[providers.MachineID][]providers.Resource) error {
	domains, _, err := l.ConnectListAllDomains(1, 0)
	if err != nil {
		return err
	}
	for _, dom := range domains {
		if _, ours := machineOf(dom.Name); !ours {
			continue
		}
		t, err := l.readTags(dom)
		if is(err, libvirt.ErrNoDomain, libvirt.ErrNoDomainMetadata) {
			continue
		}
		if err != nil {
			return err
		}
		if t.Installation != installation {
			continue
		}
		f := found{h, dom, t}
		all[t.Machine] = append(all[t.Machine], providers.Resource{Kind: providers.ResourceMachine, ID: h.Name + "/" + dom.Name, Machine: t.Machine})
		if at := f.endpoint(l); at != "" {
			all[t.Machine] = append(all[t.Machine], providers.Resource{Kind: providers.ResourceAddress, ID: at, Machine: t.Machine})
		}
	}
	volumes, err := l.inventory()
	if err != nil {
		return err
	}
	volumes = slices.DeleteFunc(volumes, func(v volume) bool { return v.installation != installation })
	for len(volumes) > 0 {
		id := volumes[0].owner
		told, err := h.resources(l, id, of(volumes, id))
		if err != nil {
			return err
		}
		if len(told) > 0 {
			all[id] = append(all[id], told...)
		}
		volumes = slices.DeleteFunc(volumes, func(v volume) bool { return v.owner == id })
	}
	return nil
}
