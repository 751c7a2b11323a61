package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
)

// created stands where the time of pushing would: the same release is the same
// artifact.
const created = "1970-01-01T00:00:00Z"

// pusher sends one release.
type pusher struct {
	Options
	repo *remote.Repository
	dir  string
}

// Push sends a signed release, whose files are in dir, and answers the digest of
// the artifact. What the registry has already is not sent again. Errors match
// ErrReference, ErrTampered where a file is not what the manifest states, and
// fs.ErrNotExist where one is missing.
func Push(ctx context.Context, o Options, dir string) (string, error) {
	repo, err := o.repository()
	if err != nil {
		return "", err
	}
	manifest, err := readCapped(filepath.Join(dir, imagebuild.ManifestName), release.MaxManifestBytes)
	if err != nil {
		return "", fmt.Errorf("reading the manifest: %w", err)
	}
	m, err := release.ParseManifest(manifest)
	if err != nil {
		return "", err
	}
	signature, err := readSignature(dir)
	if err != nil {
		return "", err
	}
	p := &pusher{Options: o, repo: repo, dir: dir}
	about, err := p.release(ctx, m, manifest)
	if err != nil {
		return "", err
	}
	if err := p.signature(ctx, about, signature); err != nil {
		return "", err
	}
	if ref := repo.Reference; ref.ValidateReferenceAsDigest() != nil {
		if err := repo.Tag(ctx, about, ref.Reference); err != nil {
			return "", fmt.Errorf("tagging the release: %w", err)
		}
	} else if ref.Reference != about.Digest.String() {
		return "", fmt.Errorf("%w: the release is %s", ErrReference, about.Digest)
	}
	return about.Digest.String(), nil
}

// signatureFiles are what sign.Release wrote, by their types.
type signatureFile struct {
	name, mediaType string
	data            []byte
}

func readSignature(dir string) (all []signatureFile, err error) {
	for _, f := range []signatureFile{{sign.BundleName, SignatureType, nil}, {sign.EntryName, entryType, nil}} {
		if f.data, err = readCapped(filepath.Join(dir, f.name), release.MaxBundleBytes); err != nil {
			return nil, fmt.Errorf("reading the signature: %w", err)
		}
		all = append(all, f)
	}
	return all, nil
}

func readCapped(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: %s has more than %d bytes", attest.ErrMalformed, name, limit)
	}
	return b, err
}

// release sends the files, then what names them.
func (p *pusher) release(ctx context.Context, m *release.Manifest, manifest []byte) (ocispec.Descriptor, error) {
	layer, err := p.bytes(ctx, imagebuild.ManifestName, manifestType, manifest)
	if err != nil {
		return layer, err
	}
	layers := []ocispec.Descriptor{layer}
	for _, part := range parts(m) {
		layer, err := p.part(ctx, part)
		if errors.Is(err, fs.ErrNotExist) && part.optional {
			continue
		}
		if err != nil {
			return layer, err
		}
		layers = append(layers, layer)
	}
	about, err := oras.PackManifest(ctx, p.repo, oras.PackManifestVersion1_1, ArtifactType, oras.PackManifestOptions{
		Layers: layers, ManifestAnnotations: map[string]string{
			ocispec.AnnotationCreated: created, ocispec.AnnotationVersion: m.Version,
			ocispec.AnnotationTitle: "shed " + m.Version + " " + m.Architecture,
		},
	})
	if err != nil {
		return about, fmt.Errorf("pushing the release: %w", err)
	}
	return about, nil
}

// signature sends the signature, as what refers to the release.
func (p *pusher) signature(ctx context.Context, subject ocispec.Descriptor, of []signatureFile) error {
	var layers []ocispec.Descriptor
	for _, f := range of {
		layer, err := p.bytes(ctx, f.name, f.mediaType, f.data)
		if err != nil {
			return err
		}
		layers = append(layers, layer)
	}
	_, err := oras.PackManifest(ctx, p.repo, oras.PackManifestVersion1_1, SignatureType, oras.PackManifestOptions{
		Subject: &subject, Layers: layers, ManifestAnnotations: map[string]string{ocispec.AnnotationCreated: created},
	})
	if err != nil {
		return fmt.Errorf("pushing the signature: %w", err)
	}
	return nil
}

func (p *pusher) bytes(ctx context.Context, name, mediaType string, data []byte) (ocispec.Descriptor, error) {
	about, err := oras.PushBytes(ctx, p.repo, mediaType, data)
	if err != nil {
		return about, fmt.Errorf("pushing %s: %w", name, err)
	}
	about.Annotations = map[string]string{ocispec.AnnotationTitle: name}
	return about, nil
}

// part sends a file that is what the manifest states.
func (p *pusher) part(ctx context.Context, of part) (layer ocispec.Descriptor, err error) {
	name := filepath.Join(p.dir, of.Name)
	sum, size, err := files.Digest(name)
	if err != nil {
		return layer, fmt.Errorf("reading %s: %w", of.Name, err)
	}
	if sum != of.SHA256 || size != of.Bytes {
		return layer, fmt.Errorf("%w: %s has sha256 %s, and the manifest states %s", ErrTampered, of.Name, sum, of.SHA256)
	}
	if of.mediaType() == diskType {
		packed, err := pack(name)
		if err != nil {
			return layer, err
		}
		defer os.Remove(packed) //nolint:errcheck // it is the system's to clean up then
		name = packed
		if sum, size, err = files.Digest(name); err != nil {
			return layer, err
		}
	}
	layer = ocispec.Descriptor{
		MediaType: of.mediaType(), Digest: digest.Digest("sha256:" + sum.String()), Size: size,
		Annotations: map[string]string{ocispec.AnnotationTitle: of.layerName()},
	}
	there, err := p.repo.Blobs().Exists(ctx, layer)
	if err != nil {
		return layer, fmt.Errorf("pushing %s: %w", of.Name, err)
	}
	if there {
		p.tell(of.Name, size, size)
		return layer, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return layer, fmt.Errorf("pushing %s: %w", of.Name, err)
	}
	defer f.Close()
	counted := &counting{r: f, tell: func(done int64) { p.tell(of.Name, done, size) }}
	if err := p.repo.Blobs().Push(ctx, layer, counted); err != nil {
		return layer, fmt.Errorf("pushing %s: %w", of.Name, err)
	}
	return layer, nil
}

// pack compresses the disk into a file that the caller removes. One thread: the
// same disk gives the same bytes.
func pack(disk string) (name string, err error) {
	in, err := os.Open(disk)
	if err != nil {
		return "", fmt.Errorf("compressing the disk: %w", err)
	}
	defer in.Close()
	out, err := os.CreateTemp("", "shed-disk-*.zst")
	if err != nil {
		return "", fmt.Errorf("compressing the disk: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			err = errors.Join(fmt.Errorf("compressing the disk: %w", err), os.Remove(out.Name()))
		}
	}()
	w, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return "", err
	}
	if _, err := io.Copy(w, in); err != nil {
		return "", errors.Join(err, w.Close())
	}
	return out.Name(), w.Close()
}

// counting tells how much was read.
type counting struct {
	r    io.Reader
	done int64
	tell func(done int64)
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.tell(c.done)
	return n, err
}
