package debian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
)

// Foreign are packages of another architecture than the host's may be.
type Foreign struct {
	// Suite is Debian's, whose security updates count too.
	Suite        string
	Architecture string
	Names        []string
	// Through is a metapackage, and Concrete reads from its dependencies which
	// package, in which version, it stands for. Newest does without.
	Through  string
	Concrete func(depends string) (name, version string, err error)
}

// FetchForeign returns the packages in their order, and last the one that
// Through stands for. What the cache has is taken without asking whether there
// are newer ones: removing the cache asks. Errors match ErrLists or ErrDownload,
// or are Concrete's.
func FetchForeign(ctx context.Context, f Foreign, cache string) ([]*Package, error) {
	note := filepath.Join(cache, fmt.Sprintf("%s_%s_%s.json", f.Through, f.Suite, f.Architecture))
	if packages := f.known(note, cache); packages != nil {
		return packages, nil
	}
	var packages []*Package
	err := withLists(ctx, f.Architecture, fmt.Sprintf(sources, f.Suite)+fmt.Sprintf(securitySources, f.Suite), cache, func(a apt) (err error) {
		packages, err = f.fetchAll(ctx, a, cache)
		return err
	})
	if err != nil {
		return nil, err
	}
	var known []knownPackage
	for _, p := range packages {
		known = append(known, noteOf(p))
	}
	b, err := json.Marshal(known)
	if err != nil {
		return nil, fmt.Errorf("keeping %s: %w", note, err)
	}
	return packages, statefile.Write(note, 0o644, b)
}

func (f Foreign) fetchAll(ctx context.Context, a apt, cache string) (packages []*Package, err error) {
	for _, name := range f.Names {
		p, err := a.fetch(ctx, name, "", cache)
		if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	if f.Through == "" {
		return packages, nil
	}
	record, err := a.show(ctx, f.Through)
	if err != nil {
		return nil, err
	}
	name, version, err := f.Concrete(record["Depends"])
	if err != nil {
		return nil, fmt.Errorf("%s depends on %.80q: %w", f.Through, record["Depends"], err)
	}
	p, err := a.fetch(ctx, name, version, cache)
	return append(packages, p), err
}

// known answers nil where the cache lacks one of the packages, or the note is
// about others.
func (f Foreign) known(note, cache string) (packages []*Package) {
	b, err := os.ReadFile(note)
	if err != nil {
		return nil
	}
	var known []knownPackage
	if json.Unmarshal(b, &known) != nil || len(known) != len(f.Names)+1 {
		return nil
	}
	for i, k := range known {
		p := k.in(cache)
		if p == nil || i < len(f.Names) && p.Name != f.Names[i] {
			return nil
		}
		packages = append(packages, p)
	}
	return packages
}

// Unpack lays the files of packages out in a directory of the cache, once for
// the same packages, and answers it. Nothing in them is run. Errors match
// ErrArchive.
func Unpack(ctx context.Context, packages []*Package, cache string) (root string, err error) {
	var digests strings.Builder
	for _, p := range packages {
		digests.WriteString(p.SHA256.String())
	}
	root = filepath.Join(cache, "root-"+attest.Sum([]byte(digests.String())).String()[:16])
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("making the cache: %w", err)
	}
	fresh, err := os.MkdirTemp(cache, ".root-")
	if err != nil {
		return "", fmt.Errorf("unpacking packages: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	for _, p := range packages {
		if out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", p.Path, fresh).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s: %w: %s", ErrArchive, filepath.Base(p.Path), err, lastLine(out))
		}
	}
	// Two builds at once make the same.
	if err := os.Rename(fresh, root); err != nil {
		if _, there := os.Stat(root); there == nil {
			return root, nil
		}
		return "", fmt.Errorf("unpacking packages: %w", err)
	}
	return root, nil
}
