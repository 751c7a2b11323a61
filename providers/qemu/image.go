package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

const (
	diskFile      = "disk.raw"
	imageInfoFile = "image.json"
	// progressBytes is how much is read between two reports of progress.
	progressBytes = 8 << 20
)

// imageInfo is what an imported image was verified to be.
type imageInfo struct {
	SHA256 attest.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
}

func (c *config) imagePath(release attest.ReleaseDigest) string {
	return c.path(imagesDir, release.String(), diskFile)
}

// haveImage refuses a release whose disk is not here.
func (c *config) haveImage(release attest.ReleaseDigest) error {
	there, err := exists(c.imagePath(release))
	if err != nil {
		return failure(err, "looking for the image")
	}
	if !there {
		return providers.Errorf(providers.CodeInvalid, "the image of release %s is not here: EnsureImage comes first", release)
	}
	return nil
}

// EnsureImage copies the disk and verifies what it copied: the original is the
// caller's, who may change it.
func (p *Provider) EnsureImage(ctx context.Context, image providers.Image, progress func(done, total int64)) error {
	c, err := p.configured()
	if err != nil {
		return err
	}
	if progress == nil {
		progress = func(int64, int64) {}
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
	if known.SHA256 != image.SHA256 || known.Bytes != image.Bytes {
		return providers.Errorf(providers.CodeConflict, "release %s has another image here: sha256 %s", image.Release, known.SHA256)
	}
	progress(image.Bytes, image.Bytes)
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
func (c *config) readImageInfo(release attest.ReleaseDigest) (*imageInfo, error) {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(c.imagePath(release)), imageInfoFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no image is an answer
	}
	if err != nil {
		return nil, err
	}
	var info imageInfo
	if err := json.Unmarshal(b, &info); err != nil {
		return nil, fmt.Errorf("reading %s: %w", imageInfoFile, err)
	}
	return &info, nil
}

func (c *config) importImage(ctx context.Context, image providers.Image, progress func(done, total int64)) (err error) {
	source, err := os.Open(image.Path)
	if err != nil {
		return providers.Errorf(providers.CodeInvalid, "image: %s", err)
	}
	defer source.Close()
	fresh, err := os.MkdirTemp(c.path(tempDir), "image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	if err := copyImage(ctx, filepath.Join(fresh, diskFile), source, image, progress); err != nil {
		return err
	}
	info, err := json.Marshal(imageInfo{SHA256: image.SHA256, Bytes: image.Bytes})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(fresh, imageInfoFile), info, 0o600); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Dir(c.imagePath(image.Release))); err != nil {
		return err
	}
	return syncDir(c.path(imagesDir))
}

// copyImage writes the disk to path and refuses it unless the bytes written
// are the ones asked for.
func copyImage(ctx context.Context, path string, source io.Reader, image providers.Image, progress func(done, total int64)) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &sparseWriter{file: f}
	sum := sha256.New()
	// One byte more than promised tells a longer file from a right one.
	source = io.LimitReader(source, image.Bytes+1)
	for {
		n, err := io.CopyN(io.MultiWriter(sum, w), source, progressBytes)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		progress(min(w.size, image.Bytes), image.Bytes)
		if n < progressBytes {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if w.size != image.Bytes {
		return providers.Errorf(providers.CodeInvalid, "image has not the %d bytes it should have", image.Bytes)
	}
	if got := attest.Digest(sum.Sum(nil)); got != image.SHA256 {
		return providers.Errorf(providers.CodeInvalid, "image has sha256 %s, want %s", got, image.SHA256)
	}
	return w.finish()
}
