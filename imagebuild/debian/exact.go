package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
)

// ErrSuperseded says that Debian's mirror no longer has a version.
var ErrSuperseded = errors.New("Debian no longer has this version") //nolint:revive,staticcheck // a name

// DigestError says that a package file has other bytes than were asked for.
type DigestError struct {
	File         string
	Wanted, Have attest.Digest
}

func (e *DigestError) Error() string {
	return fmt.Sprintf("package %s has sha256 %s, not %s", e.File, e.Have, e.Wanted)
}

// Exact is one package file, for good.
type Exact struct {
	Name, Version string
	// Architecture is the package's own.
	Architecture string
	Suite        string
	SHA256       attest.Digest
}

func (e Exact) file() string { return fileName(e.Name, e.Version, e.Architecture) }

// FetchExact returns the packages in their order, for machines of an
// architecture. Each is taken from the archive where that has a file of its
// SHA-256 for a name (an empty archive has none), from the cache, or from
// Debian. Errors match ErrSuperseded, ErrLists or ErrDownload, or are
// *DigestError.
func FetchExact(ctx context.Context, wanted []Exact, architecture, archive, cache string) ([]*Package, error) {
	packages := make([]*Package, len(wanted))
	missing := map[string][]int{}
	for i, e := range wanted {
		p, err := e.kept(archive, cache)
		if err != nil {
			return nil, err
		}
		if packages[i] = p; p == nil {
			missing[e.Suite] = append(missing[e.Suite], i)
		}
	}
	for suite, of := range missing {
		lists := fmt.Sprintf(sources, suite) + fmt.Sprintf(securitySources, suite)
		err := withLists(ctx, architecture, lists, cache, func(a apt) error {
			for _, i := range of {
				p, err := a.fetchExact(ctx, wanted[i], cache)
				if err != nil {
					return err
				}
				packages[i] = p
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return packages, nil
}

// kept is the package as archive or cache has it; nil where neither does. A
// file of the cache with other bytes is fetched again, one of the archive is
// none that anybody should go on with.
func (e Exact) kept(archive, cache string) (*Package, error) {
	p := &Package{Name: e.Name, Version: e.Version, SHA256: e.SHA256}
	if archive != "" {
		p.Path = filepath.Join(archive, e.SHA256.String())
		digest, _, err := files.Digest(p.Path)
		switch {
		case err == nil && digest != e.SHA256:
			return nil, &DigestError{File: p.Path, Wanted: e.SHA256, Have: digest}
		case err == nil:
			return p, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
	}
	p.Path = filepath.Join(cache, e.file())
	if digest, _, err := files.Digest(p.Path); err == nil && digest == e.SHA256 {
		return p, nil
	}
	return nil, nil //nolint:nilnil // no package is an answer
}

func (a apt) fetchExact(ctx context.Context, e Exact, cache string) (*Package, error) {
	record, err := a.show(ctx, e.Name+"="+e.Version)
	if errors.Is(err, ErrLists) {
		return nil, fmt.Errorf("%w: %s %s of %s", ErrSuperseded, e.Name, e.Version, e.Suite)
	}
	if err != nil {
		return nil, err
	}
	p := &Package{Name: e.Name, Version: e.Version, Path: filepath.Join(cache, e.file())}
	if err := p.SHA256.UnmarshalText([]byte(record["SHA256"])); err != nil {
		return nil, fmt.Errorf("%w: %s: SHA256: %w", ErrLists, e.Name, err)
	}
	if p.SHA256 != e.SHA256 {
		return nil, &DigestError{File: e.file(), Wanted: e.SHA256, Have: p.SHA256}
	}
	return p, a.download(ctx, p, cache)
}

// Newest returns what Debian has now of the packages, as FetchForeign does but
// without taking the cache's word for it, and of each what names it for good.
func (f Foreign) Newest(ctx context.Context, cache string) (exact []Exact, packages []*Package, err error) {
	lists := fmt.Sprintf(sources, f.Suite) + fmt.Sprintf(securitySources, f.Suite)
	err = withLists(ctx, f.Architecture, lists, cache, func(a apt) (err error) {
		packages, err = f.fetchAll(ctx, a, cache)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, p := range packages {
		e := Exact{Name: p.Name, Version: p.Version, Architecture: f.Architecture, Suite: f.Suite, SHA256: p.SHA256}
		if e.file() != filepath.Base(p.Path) {
			e.Architecture = "all"
		}
		exact = append(exact, e)
	}
	return exact, packages, nil
}
