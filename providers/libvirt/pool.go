package libvirt

import (
	"encoding/xml"
	"fmt"
	"path"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/providers"
)

// pool is a storage pool.
type pool struct {
	libvirt.StoragePool
	description poolXML
}

// poolXML is as much of a pool's description as is looked at.
type poolXML struct {
	Type   string `xml:"type,attr"`
	Source struct {
		Name  string `xml:"name"`
		Hosts []struct {
			Name string `xml:"name,attr"`
			Port string `xml:"port,attr"`
		} `xml:"host"`
		Auth *struct {
			Username string `xml:"username,attr"`
			Secret   struct {
				UUID  string `xml:"uuid,attr"`
				Usage string `xml:"usage,attr"`
			} `xml:"secret"`
		} `xml:"auth"`
	} `xml:"source"`
	Path string `xml:"target>path"`
}

// The types of pool that are known. The first three are directories.
const (
	poolDir     = "dir"
	poolFS      = "fs"
	poolNetFS   = "netfs"
	poolLogical = "logical"
	poolRBD     = "rbd"
)

// isFiles reports whether the pool's volumes are files of the host's.
func (p pool) isFiles() bool {
	t := p.description.Type
	return t == poolDir || t == poolFS || t == poolNetFS
}

// path is where a volume is, or will be, on the host.
func (p pool) path(volume string) string { return path.Join(p.description.Path, volume) }

// findPools looks the host's pools up and refuses those that cannot be used.
func (h *host) findPools(l *link) error {
	for _, want := range []struct {
		field, name string
		pool        *pool
	}{{"pool", h.Pool, &l.pool}, {"files_pool", h.FilesPool, &l.files}} {
		found, err := l.StoragePoolLookupByName(want.name)
		if is(err, libvirt.ErrNoStoragePool) {
			return providers.Errorf(providers.CodeInvalid, "host %s has no storage pool %q, which %s names", h.Name, want.name, want.field).In(providers.ScopeRegion)
		}
		if err != nil {
			return fmt.Errorf("looking for the pool %s: %w", want.name, err)
		}
		text, err := l.StoragePoolGetXMLDesc(found, 0)
		if err != nil {
			return fmt.Errorf("describing the pool %s: %w", want.name, err)
		}
		*want.pool = pool{StoragePool: found}
		if err := xml.Unmarshal([]byte(text), &want.pool.description); err != nil {
			return fmt.Errorf("reading the description of the pool %s: %w", want.name, err)
		}
	}
	if t := l.pool.description.Type; !l.pool.isFiles() && t != poolLogical && t != poolRBD {
		return providers.Errorf(providers.CodeInvalid, "host %s: pool %s is of type %s, want a directory, logical or rbd", h.Name, h.Pool, t).In(providers.ScopeRegion)
	}
	if !l.files.isFiles() {
		return providers.Errorf(providers.CodeInvalid, "host %s: files_pool %s is of type %s, want a directory", h.Name, h.FilesPool, l.files.description.Type).In(providers.ScopeRegion)
	}
	return nil
}

// volumeSpec is what a volume is made from.
type volumeSpec struct {
	name  string
	bytes int64
	// backing is the path of the image that a system disk is laid over.
	backing string
	// source is the volume that this one is a copy of, where it cannot be laid
	// over it.
	source string
	// shared says that every domain reads it, and so that QEMU must be able to
	// without libvirt's making the volume its own.
	shared bool
}

func (s volumeSpec) xml() string {
	var b strings.Builder
	format, backing, mode := "raw", "", "0600"
	if s.shared {
		mode = "0644"
	}
	if s.backing != "" {
		format = "qcow2"
		backing = fmt.Sprintf("<backingStore><path>%s</path><format type='raw'/></backingStore>", escape(s.backing))
	}
	// A volume takes what is written to it, where the pool can do that.
	fmt.Fprintf(&b, "<volume><name>%s</name><capacity unit='bytes'>%d</capacity><allocation>0</allocation>", escape(s.name), s.bytes)
	fmt.Fprintf(&b, "<target><format type='%s'/><permissions><mode>%s</mode></permissions></target>%s</volume>", format, mode, backing)
	return b.String()
}

// makeVolume makes a volume unless it is there.
func (l *link) makeVolume(p pool, s volumeSpec) (vol libvirt.StorageVol, made bool, err error) {
	if vol, err := l.StorageVolLookupByName(p.StoragePool, s.name); err == nil || !is(err, libvirt.ErrNoStorageVol) {
		return vol, false, err
	}
	if s.source != "" {
		source, err := l.StorageVolLookupByName(p.StoragePool, s.source)
		if err != nil {
			return libvirt.StorageVol{}, false, err
		}
		vol, err = l.StorageVolCreateXMLFrom(p.StoragePool, s.xml(), source, 0)
		return vol, err == nil, err
	}
	vol, err = l.StorageVolCreateXML(p.StoragePool, s.xml(), 0)
	return vol, err == nil, err
}

// removeVolume is fine with one that is not there.
func (l *link) removeVolume(p pool, name string) error {
	vol, err := l.StorageVolLookupByName(p.StoragePool, name)
	if err == nil {
		err = l.StorageVolDelete(vol, 0)
	}
	if is(err, libvirt.ErrNoStorageVol) {
		return nil
	}
	return err
}

// fillVolume writes from the beginning of a volume.
func (l *link) fillVolume(vol libvirt.StorageVol, content string) error {
	return l.stream(func(s *libvirt.Libvirt) error {
		return s.StorageVolUpload(vol, strings.NewReader(content), 0, uint64(len(content)), 0)
	})
}

// readVolume reads the beginning of a volume.
func (l *link) readVolume(vol libvirt.StorageVol, bytes uint64) (string, error) {
	return l.readPiece(vol, 0, bytes)
}

func (l *link) readPiece(vol libvirt.StorageVol, offset, bytes uint64) (string, error) {
	var b strings.Builder
	err := l.stream(func(s *libvirt.Libvirt) error { return s.StorageVolDownload(vol, &b, offset, bytes, 0) })
	return b.String(), err
}
