package libvirt

import (
	"slices"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
)

// volume is one of ours, with whose it is.
type volume struct {
	parsed
	name string
	pool pool
	vol  libvirt.StorageVol
	// owner is the machine that it belongs to: a marker may have given it to
	// another than the one in its name.
	owner providers.MachineID
}

// inventory lists the volumes on a host that carry our names.
func (l *link) inventory() ([]volume, error) {
	pools := []pool{l.pool}
	if l.files.Name != l.pool.Name {
		pools = append(pools, l.files)
	}
	var out []volume
	for _, p := range pools {
		vols, _, err := l.StoragePoolListAllVolumes(p.StoragePool, 1, 0)
		if err != nil {
			return nil, err
		}
		for _, vol := range vols {
			if name, ok := parseVolume(vol.Name); ok {
				out = append(out, volume{parsed: name, name: vol.Name, pool: p, vol: vol, owner: name.machine})
			}
		}
	}
	return assign(out), nil
}

// assign gives disks to the machines that markers name.
func assign(all []volume) []volume {
	for _, marker := range all {
		if marker.kind != kindMarker {
			continue
		}
		for i, v := range all {
			if v.kind == kindData && v.machine == marker.disk && v.installation == marker.installation {
				all[i].owner = marker.machine
			}
		}
	}
	return all
}

// of picks the volumes that belong to a machine.
func of(all []volume, id providers.MachineID) []volume {
	return slices.DeleteFunc(slices.Clone(all), func(v volume) bool { return v.owner != id })
}

// resources are the volumes as List tells of them. A marker is part of the disk
// that it speaks of, unless that is gone.
func (h *host) resources(l *link, id providers.MachineID, volumes []volume) ([]providers.Resource, error) {
	var out []providers.Resource
	for _, v := range volumes {
		if v.kind == kindMarker && slices.ContainsFunc(volumes, func(d volume) bool { return d.kind == kindData && d.machine == v.disk }) {
			continue
		}
		_, _, allocation, err := l.StorageVolGetInfo(v.vol)
		if is(err, libvirt.ErrNoStorageVol) {
			continue
		}
		if err != nil {
			return nil, err
		}
		resource := providers.Resource{
			Kind: providers.ResourceDisk, ID: h.Name + "/" + v.pool.Name + "/" + v.name, Machine: id, Bytes: int64(allocation), //nolint:gosec // no pool holds as much
		}
		if v.kind == kindData {
			resource.Kind = providers.ResourceDataDisk
		}
		out = append(out, resource)
	}
	return out, nil
}
