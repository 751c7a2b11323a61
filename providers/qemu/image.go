package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

const (
	diskFile      = "disk.raw"
	imageInfoFile = "image.json"
	// codeFile and pristineFile are the release's own firmware and its
	// variables as a new machine has them.
	codeFile     = "firmware.fd"
	pristineFile = "variables.fd"
)

func (c *config) imagePath(release attest.ReleaseDigest) string {
	return c.path(imagesDir, release.String(), diskFile)
}

// haveImage refuses a release whose disk is not here, or that does not know
// what its firmware measures on the machines that are made now.
func (c *config) haveImage(release attest.ReleaseDigest) error {
	info, err := c.readImageInfo(release)
	if err != nil {
		return failure(err, "looking for the image")
	}
	if info == nil {
		return providers.Errorf(providers.CodeInvalid, "the image of release %s is not here: EnsureImage comes first", release)
	}
	if info.Firmware != nil && !slices.Contains(info.Firmware.Shapes, c.shape()) {
		return providers.Errorf(providers.CodeInvalid, "release %s was built for machines of %v, and vcpus and memory_bytes make %s",
			release, info.Firmware.Shapes, c.shape())
	}
	return nil
}

// firmware is what a machine starts with, and on which board.
type firmware struct {
	code, variables string
	model           board.Model
}

// firmware answers what a machine of the release starts with: the release's
// own, or this host's.
func (c *config) firmware(release attest.ReleaseDigest) (firmware, error) {
	info, err := c.readImageInfo(release)
	if err != nil {
		return firmware{}, fmt.Errorf("looking for the firmware: %w", err)
	}
	switch {
	case info == nil || info.Firmware == nil && info.Architecture == "":
		return firmware{code: c.tools.firmware, variables: c.tools.variables}, nil
	case info.Firmware == nil:
		return firmware{}, fmt.Errorf("release %s for %s brings no firmware, and this host has none for it", release, info.Architecture)
	}
	dir := filepath.Dir(c.imagePath(release))
	return firmware{
		code: filepath.Join(dir, codeFile), variables: filepath.Join(dir, pristineFile),
		model: board.Model{Architecture: info.Architecture, SecureBoot: info.Firmware.SecureBoot},
	}, nil
}

// EnsureImage copies disk and firmware and verifies what it copied: the
// originals are the caller's, who may change them.
func (p *Provider) EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	if err := c.checkArchitecture(image); err != nil {
		return err
	}
	one := p.imageLock(image.Release)
	one.Lock()
	defer one.Unlock()
	known, err := c.readImageInfo(image.Release)
	if err != nil {
		return failure(err, "looking for the image")
	}
	if known == nil {
		return failure(c.importImage(ctx, image, progress), "importing the image")
	}
	if !reflect.DeepEqual(*known, sdk.InfoOf(image)) {
		return providers.Errorf(providers.CodeConflict, "release %s has another image or firmware here: sha256 %s", image.Release, known.SHA256)
	}
	progress(image.Bytes, image.Bytes)
	return nil
}

// checkArchitecture refuses an image whose machines this host cannot run.
func (c *config) checkArchitecture(image providers.Image) error {
	switch image.Architecture {
	case board.AMD64, "":
		return nil
	case board.ARM64:
	default:
		return providers.Errorf(providers.CodeInvalid, "release %s is for %q, and machines are made of %s and %s",
			image.Release, image.Architecture, board.AMD64, board.ARM64)
	}
	program, debian := board.Model{Architecture: board.ARM64}.Program()
	if c.tools.qemuARM64 == "" {
		return providers.Errorf(providers.CodeInvalid, "release %s is for %s, and %s is missing: apt-get install %s",
			image.Release, image.Architecture, program, debian)
	}
	if image.Firmware == nil {
		return providers.Errorf(providers.CodeInvalid, "release %s is for %s and brings no firmware: build it with --shapes", image.Release, image.Architecture)
	}
	return nil
}

// imageLock lets one import of a release run at a time.
func (p *Provider) imageLock(release attest.ReleaseDigest) *sync.Mutex {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.images[release]
	if !ok {
		one = &sync.Mutex{}
		p.images[release] = one
	}
	return one
}

// readImageInfo answers nil where the image is not here.
func (c *config) readImageInfo(release attest.ReleaseDigest) (*sdk.ImageInfo, error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(c.imagePath(release)), imageInfoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no image is an answer
	}
	if err != nil {
		return nil, err
	}
	var info sdk.ImageInfo
	if err := json.Unmarshal(b, &info); err != nil {
		return nil, fmt.Errorf("reading %s: %w", imageInfoFile, err)
	}
	return &info, nil
}

func (c *config) importImage(ctx context.Context, image providers.Image, progress func(done, total int64)) (err error) {
	fresh, err := os.MkdirTemp(c.path(tempDir), "image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	if f := image.Firmware; f != nil {
		if err := copyImage(ctx, filepath.Join(fresh, codeFile), "firmware", f.Code, nil); err != nil {
			return err
		}
		if err := copyImage(ctx, filepath.Join(fresh, pristineFile), "firmware's variables", f.Variables, nil); err != nil {
			return err
		}
	}
	disk := providers.File{Path: image.Path, SHA256: image.SHA256, Bytes: image.Bytes}
	if err := copyImage(ctx, filepath.Join(fresh, diskFile), "image", disk, progress); err != nil {
		return err
	}
	info, err := json.Marshal(sdk.InfoOf(image))
	if err != nil {
		return err
	}
	if err := statefile.Write(filepath.Join(fresh, imageInfoFile), 0o600, info); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Dir(c.imagePath(image.Release))); err != nil {
		return err
	}
	return statefile.SyncDir(c.path(imagesDir))
}

// copyImage writes a file to path, with its holes, and refuses it unless the
// bytes written are the ones asked for. what names it in errors.
func copyImage(ctx context.Context, path, what string, want providers.File, progress func(done, total int64)) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &sparseWriter{file: f}
	if err := sdk.CopyFile(ctx, w, what, want, progress); err != nil {
		return err
	}
	return w.finish()
}
