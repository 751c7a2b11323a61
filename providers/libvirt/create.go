package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// The bounds of a data disk. The lower one is what a file system and the
// volume's own header need.
const (
	minDataBytes = 16 << 20
	maxDataBytes = 16 << 40
	sectorBytes  = 512
)

// Create defines the domain, makes what it needs, and starts it.
func (p *Provider) Create(ctx context.Context, req providers.CreateRequest) (m providers.Machine, err error) {
	c, err := p.configured()
	if err != nil {
		return m, err
	}
	offering, err := sdk.CheckCreate(req, c.offered())
	if err != nil {
		return m, err
	}
	if n := req.Spec.DataBytes; n < minDataBytes || n > maxDataBytes || n%sectorBytes != 0 {
		return m, providers.Errorf(providers.CodeInvalid, "data_bytes is %d, want a multiple of %d from %d to %d", n, sectorBytes, minDataBytes, int64(maxDataBytes))
	}
	err = p.alone(ctx, string(req.Machine), "creating machine "+string(req.Machine), func(ctx context.Context) error {
		m, err = p.create(ctx, c, req, offering)
		return err
	})
	if err != nil {
		// What alone has not waited for may still write m.
		return providers.Machine{}, err
	}
	return m, nil
}

func (p *Provider) create(ctx context.Context, c *config, req providers.CreateRequest, o providers.Offering) (m providers.Machine, err error) {
	f, err := p.find(ctx, c, req.Machine)
	switch code := providers.CodeOf(err); {
	case code == "":
		if err := f.same(req); err != nil {
			return m, err
		}
	case code == providers.CodeNotFound, code == providers.CodeUnavailable && req.Spec.Region != "":
		// A place that was named is the only one that is asked: what went
		// before there, the caller knows.
		if f, err = p.place(ctx, c, req, o); err != nil {
			return m, err
		}
	default:
		return m, err
	}
	if !f.Made {
		if err := p.finish(ctx, c, &f, req); err != nil {
			return m, err
		}
	}
	return p.see(ctx, c, f)
}

// same refuses a request for a machine that is there and is another.
func (f found) same(req providers.CreateRequest) error {
	if f.Deleting {
		return providers.Errorf(providers.CodeAborted, "machine %s is being deleted", f.Machine)
	}
	return sdk.Same(providers.Machine{ID: f.Machine, Installation: f.Installation, SpecHash: f.SpecHash}, req)
}

// place defines the domain on the host that was named, or on the first with
// room.
func (p *Provider) place(ctx context.Context, c *config, req providers.CreateRequest, o providers.Offering) (f found, err error) {
	refused := error(&providers.Error{Code: providers.CodeCapacity, Scope: providers.ScopeRegion, Message: "every host is drained"})
	for _, h := range c.hosts {
		if req.Spec.Region != "" && h.Name != req.Spec.Region {
			continue
		}
		if h.Drained {
			refused = errFull(h, "it is drained")
			continue
		}
		f, err = p.placeOn(ctx, c, h, req, o)
		if code := providers.CodeOf(err); code != providers.CodeCapacity && code != providers.CodeUnavailable {
			return f, err
		}
		refused = err
	}
	return found{}, refused
}

func (p *Provider) placeOn(ctx context.Context, c *config, h *host, req providers.CreateRequest, o providers.Offering) (f found, err error) {
	h.making.Lock()
	defer h.making.Unlock()
	err = h.do(ctx, "placing a machine", func(l *link) error {
		if err := c.admit(h, l, req, o); err != nil {
			return err
		}
		port, err := p.port(c, h, l)
		if err != nil {
			return err
		}
		t := tags{
			Machine: req.Machine, Installation: req.Installation, Generation: req.Generation,
			SpecHash: req.Spec.Hash(), Release: req.Spec.Release,
			Size: o.Size, VCPUs: o.VCPUs, MemoryBytes: o.MemoryBytes,
			CreatedAt: p.opts.Now().UTC(), Port: port, Disk: req.Machine, On: true,
		}
		if err := h.define(l, t); err != nil {
			return err
		}
		dom, err := l.DomainLookupByName(domainName(req.Machine))
		f = found{h, dom, t}
		return err
	})
	return f, err
}

// admit refuses what cannot be made on the host.
func (c *config) admit(h *host, l *link, req providers.CreateRequest, o providers.Offering) error {
	info, err := h.image(l, req.Spec.Release)
	if err != nil {
		return err
	}
	shape := board.Shape{VCPUs: o.VCPUs, MemoryBytes: o.MemoryBytes}
	switch {
	case info == nil:
		return providers.Errorf(providers.CodeInvalid, "the image of release %s is not on host %s: EnsureImage comes first", req.Spec.Release, h.Name)
	case info.Firmware != nil && !slices.Contains(info.Firmware.Shapes, shape):
		return providers.Errorf(providers.CodeInvalid, "release %s was built for machines of %v, and size %s is %s",
			req.Spec.Release, info.Firmware.Shapes, o.Size, shape)
	}
	all, err := l.inventory()
	if err != nil {
		return err
	}
	for _, v := range all {
		if v.kind == kindData && (v.owner == req.Machine || v.machine == req.Machine) {
			return providers.Errorf(providers.CodeConflict, "a data disk is kept of machine %s", req.Machine)
		}
	}
	return c.check(h, l, o, req.Spec.DataBytes)
}

// portAttempts is how many ports are tried for a new machine.
const portAttempts = 8

// portTaken is what QEMU says where another program listens on a port.
const portTaken = "Could not set up host forwarding rule"

// finish makes what a machine needs and starts it. What fails is undone.
func (p *Provider) finish(ctx context.Context, c *config, f *found, req providers.CreateRequest) error {
	for attempt := 1; ; attempt++ {
		err := f.host.do(ctx, "making a machine", func(l *link) error {
			if err := f.provision(l, req.Spec); err != nil {
				return err
			}
			return f.start(l)
		})
		if err == nil {
			return nil
		}
		if attempt < portAttempts && strings.Contains(f.Failure, portTaken) {
			if err = p.movePort(ctx, c, f); err == nil {
				continue
			}
		}
		// Where nobody knows what was done, the next call sees.
		if providers.CodeOf(err) == providers.CodeOutcomeUnknown {
			return err
		}
		undo := f.host.do(ctx, "undoing a machine", func(l *link) error { return f.delete(l, false) })
		if undo != nil {
			return fmt.Errorf("%w (and undoing it: %w)", err, undo)
		}
		return err
	}
}

func (p *Provider) movePort(ctx context.Context, c *config, f *found) error {
	f.host.making.Lock()
	defer f.host.making.Unlock()
	return f.host.do(ctx, "moving a machine to another port", func(l *link) (err error) {
		if f.Port, err = p.port(c, f.host, l); err != nil {
			return err
		}
		f.Started, f.Failure = false, ""
		return f.host.define(l, f.tags)
	})
}

// provision makes the volumes. What is there stays; the configuration is
// written until it is known to be whole.
func (f *found) provision(l *link, spec providers.Spec) error {
	if f.Made {
		return nil
	}
	if err := f.makeDisks(l, spec); err != nil {
		return err
	}
	// A disk has whole sectors. It carries the enrolment token.
	drive := string(spec.Config) + strings.Repeat("\x00", -len(spec.Config)&(sectorBytes-1))
	vol, _, err := l.makeVolume(l.files, volumeSpec{name: f.volume(kindConfig), bytes: int64(len(drive))})
	if err != nil {
		return fmt.Errorf("making the configuration's disk: %w", err)
	}
	if err := l.fillVolume(vol, drive); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	if _, _, err := l.makeVolume(l.files, volumeSpec{name: f.volume(kindConsole)}); err != nil {
		return fmt.Errorf("making the console: %w", err)
	}
	f.Made = true
	return l.writeTags(f.dom, f.tags)
}

func (f *found) makeDisks(l *link, spec providers.Spec) error {
	image, err := l.StorageVolLookupByName(l.pool.StoragePool, imageName(spec.Release, imageDisk))
	if err != nil {
		return fmt.Errorf("looking for the image: %w", err)
	}
	_, bytes, _, err := l.StorageVolGetInfo(image)
	if err != nil {
		return fmt.Errorf("looking at the image: %w", err)
	}
	system := volumeSpec{name: f.volume(kindSystem), bytes: int64(bytes)} //nolint:gosec // it was an int64
	if l.pool.isFiles() {
		system.backing = l.pool.path(image.Name)
	} else {
		system.source = image.Name
	}
	if _, _, err := l.makeVolume(l.pool, system); err != nil {
		return fmt.Errorf("making the system disk: %w", err)
	}
	vol, made, err := l.makeVolume(l.pool, volumeSpec{name: f.dataVolume(), bytes: spec.DataBytes})
	if err != nil {
		return fmt.Errorf("making the data disk: %w", err)
	}
	if made && !l.pool.isFiles() {
		return l.blank(vol)
	}
	return nil
}

// headerBytes is where whoever uses a disk writes first.
const headerBytes = 1 << 20

// blank makes a disk's beginning zero: LVM hands out what others have left.
func (l *link) blank(vol libvirt.StorageVol) error {
	if err := l.fillVolume(vol, strings.Repeat("\x00", headerBytes)); err != nil {
		return fmt.Errorf("blanking the data disk: %w", err)
	}
	return nil
}

// isBlank reports whether nothing was ever written to a disk.
func (l *link) isBlank(vol libvirt.StorageVol) (bool, error) {
	if l.pool.isFiles() {
		_, _, allocation, err := l.StorageVolGetInfo(vol)
		return allocation == 0, err
	}
	text, err := l.readVolume(vol, headerBytes)
	return strings.Trim(text, "\x00") == "", err
}
