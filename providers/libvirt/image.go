package libvirt

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

// infoBytes is the size of the volume that says what an image is.
const infoBytes = 64 << 10

// imageInfo answers nil where the host does not have the image, or not all of
// it.
func (l *link) imageInfo(release attest.ReleaseDigest) (*sdk.ImageInfo, error) {
	vol, err := l.StorageVolLookupByName(l.files.StoragePool, imageName(release, imageInfoName))
	if is(err, libvirt.ErrNoStorageVol) {
		return nil, nil //nolint:nilnil // no image is an answer
	}
	if err != nil {
		return nil, err
	}
	text, err := l.readVolume(vol, infoBytes)
	if err != nil {
		return nil, err
	}
	var info sdk.ImageInfo
	if json.Unmarshal([]byte(strings.TrimRight(text, "\x00")), &info) != nil {
		// It was being written when its writer ended.
		return nil, nil //nolint:nilnil,nilerr // half an image is none
	}
	return &info, nil
}

// image answers what a release's image is: nil where it is not here. libvirt's
// own list of a pool's volumes may have gaps until it reads the pool again.
func (h *host) image(l *link, release attest.ReleaseDigest) (*sdk.ImageInfo, error) {
	h.mu.Lock()
	seen, ok := h.images[release]
	h.mu.Unlock()
	if ok {
		return &seen, nil
	}
	info, err := l.imageInfo(release)
	if err == nil && info == nil {
		if err := l.StoragePoolRefresh(l.files.StoragePool, 0); err != nil {
			return nil, providers.Errorf(providers.CodeAborted, "reading the pool %s again: %s", l.files.Name, err)
		}
		info, err = l.imageInfo(release)
	}
	if info == nil || err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.images == nil {
		h.images = map[attest.ReleaseDigest]sdk.ImageInfo{}
	}
	h.images[release] = *info
	return info, nil
}

// EnsureImage brings the image to every host that machines are made on and that
// can be reached. One that cannot gets it when it is next asked for.
func (p *Provider) EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if err := sdk.OnlyAMD64(image); err != nil {
		return err
	}
	var open []*host
	for _, h := range c.hosts {
		if !h.Drained {
			open = append(open, h)
		}
	}
	var missed error
	had := 0
	for i, h := range open {
		part := func(done int64) { progress((int64(i)*image.Bytes+done)/int64(len(open)), image.Bytes) }
		err := p.ensureOn(ctx, h, image, part)
		switch providers.CodeOf(err) {
		case "":
			had++
		case providers.CodeUnavailable, providers.CodeOutcomeUnknown:
			if ctx.Err() != nil {
				return err
			}
			missed = err
		default:
			return err
		}
	}
	if had == 0 && missed != nil {
		return asking(missed)
	}
	progress(image.Bytes, image.Bytes)
	return nil
}

func (p *Provider) ensureOn(ctx context.Context, h *host, image providers.Image, progress func(done int64)) error {
	key := "image " + image.Release.String() + " " + h.Name
	give, err := p.keys.take(ctx, key)
	if err != nil {
		return fmt.Errorf("%w: %w", providers.Errorf(providers.CodeUnavailable, "bringing the image to host %s was given up", h.Name), err)
	}
	defer give()
	var known *sdk.ImageInfo
	err = h.do(ctx, "looking for the image", func(l *link) error {
		known, err = l.imageInfo(image.Release)
		return err
	})
	switch {
	case err != nil:
		return asking(err)
	case known == nil:
		return h.bring(ctx, image, progress)
	case !reflect.DeepEqual(*known, sdk.InfoOf(image)):
		return providers.Errorf(providers.CodeConflict, "release %s has another image or firmware on host %s: sha256 %s", image.Release, h.Name, known.SHA256)
	}
	return nil
}

// bring uploads what an image is made of, and says last that it is there.
func (h *host) bring(ctx context.Context, image providers.Image, progress func(done int64)) error {
	files := func(l *link) pool { return l.files }
	disks := func(l *link) pool { return l.pool }
	quiet := func(int64) {}
	if f := image.Firmware; f != nil {
		if err := h.upload(ctx, files, imageName(image.Release, imageFirmware), "firmware", f.Code, quiet); err != nil {
			return err
		}
		if err := h.upload(ctx, files, imageName(image.Release, imageVariables), "firmware's variables", f.Variables, quiet); err != nil {
			return err
		}
	}
	disk := providers.File{Path: image.Path, SHA256: image.SHA256, Bytes: image.Bytes}
	if err := h.upload(ctx, disks, imageName(image.Release, imageDisk), "image", disk, progress); err != nil {
		return err
	}
	info, err := json.Marshal(sdk.InfoOf(image))
	if err != nil {
		return fmt.Errorf("describing the image: %w", err)
	}
	return h.do(ctx, "recording the image", func(l *link) error {
		name := imageName(image.Release, imageInfoName)
		if err := l.removeVolume(l.files, name); err != nil {
			return err
		}
		vol, _, err := l.makeVolume(l.files, volumeSpec{name: name, bytes: infoBytes})
		if err != nil {
			return err
		}
		return l.fillVolume(vol, string(info))
	})
}

// upload makes a volume anew from a file, and removes it unless the bytes that
// were sent are the ones that were promised.
func (h *host) upload(ctx context.Context, in func(*link) pool, name, what string, want providers.File, progress func(done int64)) error {
	// A wrong file is refused before anything is sent.
	if err := sdk.CopyImage(ctx, io.Discard, want, nil); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var vol libvirt.StorageVol
	err := h.do(ctx, "making the "+what, func(l *link) (err error) {
		if err := l.removeVolume(in(l), name); err != nil {
			return err
		}
		vol, _, err = l.makeVolume(in(l), volumeSpec{name: name, bytes: want.Bytes, shared: true})
		return err
	})
	if err != nil {
		return asking(err)
	}
	// What the volume had before is not known where it is no file.
	w := &uploader{ctx: ctx, host: h, vol: vol, sparse: func(l *link) bool { return in(l).isFiles() }}
	err = sdk.CopyImage(ctx, w, want, func(done, _ int64) { progress(done) })
	if err == nil {
		err = w.flush()
	}
	return err
}

// uploader sends a file to a volume, a piece at a time, and leaves out those
// that are zero where the volume is so already.
type uploader struct {
	ctx    context.Context //nolint:containedctx // Write takes none
	host   *host
	vol    libvirt.StorageVol
	sparse func(*link) bool
	offset int64
	piece  []byte
}

var _ io.Writer = (*uploader)(nil)

const pieceBytes = 8 << 20

var zeroPiece [pieceBytes]byte

func (u *uploader) Write(b []byte) (int, error) {
	taken := 0
	for len(b) > 0 {
		n := min(len(b), pieceBytes-len(u.piece))
		u.piece = append(u.piece, b[:n]...)
		b, taken = b[n:], taken+n
		if len(u.piece) == pieceBytes {
			if err := u.flush(); err != nil {
				return taken, err
			}
		}
	}
	return taken, nil
}

func (u *uploader) flush() error {
	piece := u.piece
	if len(piece) == 0 {
		return nil
	}
	err := u.host.do(u.ctx, "uploading the image", func(l *link) error {
		if u.sparse(l) && bytes.Equal(piece, zeroPiece[:len(piece)]) {
			return nil
		}
		return l.stream(func(s *libvirt.Libvirt) error {
			return s.StorageVolUpload(u.vol, bytes.NewReader(piece), uint64(u.offset), uint64(len(piece)), 0)
		})
	})
	u.offset += int64(len(piece))
	// What was sent may still be read by a call that is not waited for.
	u.piece = nil
	return asking(err)
}
