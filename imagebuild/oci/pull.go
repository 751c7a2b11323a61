package oci

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/sign"
)

// Pulled is what came.
type Pulled struct {
	Manifest *release.Manifest
	Release  attest.ReleaseDigest
	// Artifact is its digest in the registry.
	Artifact string
}

// partialName is the directory of what came so far.
const partialName = ".pull"

// puller fetches one release.
type puller struct {
	Options
	repo *remote.Repository
	key  crypto.PublicKey
	dir  string
}

// Pull fetches a release that is signed by key into dir, the manifest last. What of
// another release is there goes once the signature has verified, also where Pull fails.
// Where it breaks off, ErrIncomplete, what came is kept in dir/.pull, and Pull
// goes on from there. Other errors match ErrReference, ErrArtifact, ErrUnsigned,
// ErrTampered, ErrDestination, or are the registry's.
func Pull(ctx context.Context, o Options, key crypto.PublicKey, dir string) (*Pulled, error) {
	repo, err := o.repository()
	if err != nil {
		return nil, err
	}
	p := &puller{Options: o, repo: repo, key: key, dir: dir}
	about, layers, err := p.artifact(ctx)
	if err != nil {
		return nil, err
	}
	manifest, err := p.small(ctx, layers, imagebuild.ManifestName, release.MaxManifestBytes)
	if err != nil {
		return nil, err
	}
	m, signed, err := p.signature(ctx, about, manifest)
	if err != nil {
		return nil, err
	}
	if err := p.files(ctx, m, layers); err != nil {
		return nil, err
	}
	if err := p.finish(manifest, signed); err != nil {
		return nil, err
	}
	return &Pulled{Manifest: m, Release: signed.digest, Artifact: about.Digest.String()}, nil
}

// artifact finds what the reference names.
func (p *puller) artifact(ctx context.Context) (about ocispec.Descriptor, layers map[string]ocispec.Descriptor, err error) {
	about, err = p.repo.Resolve(ctx, p.repo.Reference.Reference)
	if err != nil {
		return about, nil, fmt.Errorf("finding %s: %w", p.Reference, err)
	}
	b, err := p.metadata(ctx, about)
	if err != nil {
		return about, nil, err
	}
	layers, err = parseArtifact(b, ArtifactType)
	return about, layers, err
}

// metadata fetches the manifest of an artifact.
func (p *puller) metadata(ctx context.Context, about ocispec.Descriptor) ([]byte, error) {
	if about.MediaType != ocispec.MediaTypeImageManifest {
		return nil, fmt.Errorf("%w: it is a %.80q", ErrArtifact, about.MediaType)
	}
	if about.Size > maxArtifact {
		return nil, fmt.Errorf("%w: its manifest has %d bytes, at most %d", ErrArtifact, about.Size, maxArtifact)
	}
	b, err := content.FetchAll(ctx, p.repo, about)
	return b, fetched("the artifact's manifest", err)
}

// fetched says of an error what it means that fetching failed so.
func fetched(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, content.ErrMismatchedDigest), errors.Is(err, content.ErrTrailingData), errors.Is(err, content.ErrInvalidDescriptorSize):
		return fmt.Errorf("%w: %s: %w", ErrTampered, what, err)
	}
	return fmt.Errorf("fetching %s: %w", what, err)
}

// small fetches a layer into memory.
func (p *puller) small(ctx context.Context, layers map[string]ocispec.Descriptor, name string, limit int64) ([]byte, error) {
	layer, ok := layers[name]
	if !ok {
		return nil, fmt.Errorf("%w: it has no %s", ErrArtifact, name)
	}
	if layer.Size > limit {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", ErrArtifact, name, layer.Size, limit)
	}
	b, err := content.FetchAll(ctx, p.repo.Blobs(), layer)
	return b, fetched(name, err)
}

// signed is a signature that verified.
type signed struct {
	digest        attest.ReleaseDigest
	bundle, entry []byte
}

// maxReferrers bounds how many signatures are looked at: anybody who may write
// to the repository can add one.
const maxReferrers = 16

var errEnough = errors.New("enough")

// signature finds one that verifies by the key.
func (p *puller) signature(ctx context.Context, about ocispec.Descriptor, manifest []byte) (*release.Manifest, *signed, error) {
	var of []ocispec.Descriptor
	asked := 0
	err := p.repo.Referrers(ctx, about, SignatureType, func(page []ocispec.Descriptor) error {
		of = append(of, page...)
		if asked++; len(of) >= maxReferrers || asked >= maxReferrers {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, nil, fmt.Errorf("finding the release's signature: %w", err)
	}
	refused := fmt.Errorf("%w: the registry has none", ErrUnsigned)
	for _, d := range of[:min(len(of), maxReferrers)] {
		m, s, err := p.verify(ctx, d, manifest)
		if err == nil {
			return m, s, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		refused = fmt.Errorf("%w: %w", ErrUnsigned, err)
	}
	return nil, nil, refused
}

func (p *puller) verify(ctx context.Context, about ocispec.Descriptor, manifest []byte) (*release.Manifest, *signed, error) {
	b, err := p.metadata(ctx, about)
	if err != nil {
		return nil, nil, err
	}
	layers, err := parseArtifact(b, SignatureType)
	if err != nil {
		return nil, nil, err
	}
	s := &signed{}
	if s.bundle, err = p.small(ctx, layers, sign.BundleName, release.MaxBundleBytes); err != nil {
		return nil, nil, err
	}
	if s.entry, err = p.small(ctx, layers, sign.EntryName, logentry.MaxBytes); err != nil {
		return nil, nil, err
	}
	m, digest, err := release.Verify(manifest, s.bundle, p.key)
	if err != nil {
		return nil, nil, err
	}
	s.digest = digest
	return m, s, release.SignedBy(s.entry, manifest, p.key)
}

// files fetches what the manifest names.
func (p *puller) files(ctx context.Context, m *release.Manifest, layers map[string]ocispec.Descriptor) error {
	var wanted []part
	var names []string
	for _, of := range parts(m) {
		layer, there := layers[of.layerName()]
		if !there && of.optional {
			continue
		}
		if !there {
			return fmt.Errorf("%w: it has no %s", ErrArtifact, of.layerName())
		}
		if layer.Size > mostOf(of) {
			return fmt.Errorf("%w: %s has %d bytes, at most %d", ErrTampered, of.layerName(), layer.Size, mostOf(of))
		}
		wanted, names = append(wanted, of), append(names, of.Name)
	}
	if err := os.MkdirAll(filepath.Join(p.dir, partialName), 0o755); err != nil {
		return fmt.Errorf("making the directory: %w", err)
	}
	if err := imagebuild.Clear(p.dir, names...); err != nil {
		return err
	}
	for _, of := range wanted {
		if err := p.file(ctx, of, layers[of.layerName()]); err != nil {
			return err
		}
	}
	return nil
}

// mostOf is what a layer can have: zstd makes nothing larger by more than its
// frames.
func mostOf(of part) int64 {
	if of.mediaType() == diskType {
		return of.Bytes + of.Bytes/128 + 4096
	}
	return of.Bytes
}

// finish writes what makes it a release.
func (p *puller) finish(manifest []byte, s *signed) error {
	root, err := sign.TrustedRoot()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{sign.TrustedRootName, root}, {sign.EntryName, s.entry}, {sign.BundleName, s.bundle}, {imagebuild.ManifestName, manifest},
	} {
		if err := statefile.Write(filepath.Join(p.dir, f.name), 0o644, f.data); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(p.dir, partialName))
}
