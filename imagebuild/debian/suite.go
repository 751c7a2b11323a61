package debian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/statefile"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
)

// sources is what apt reads to know a suite. The keyring is the host's: Debian
// 12 has the keys of 13 in it.
const sources = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian %s main\n"

const securitySources = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian-security %s-security main\n"

// FetchFrom returns a package of a suite that need not be the host's, such as
// "trixie". What the cache has of it is taken without asking whether there is a
// newer one: removing the cache asks. Errors match ErrLists or ErrDownload.
func FetchFrom(ctx context.Context, suite, name, cache string) (*Package, error) {
	known := filepath.Join(cache, name+"_"+suite+".json")
	if p, err := readKnown(known, cache); p != nil || err != nil {
		return p, err
	}
	var p *Package
	err := withLists(ctx, "", fmt.Sprintf(sources, suite), cache, func(a apt) (err error) {
		p, err = a.fetch(ctx, name, "", cache)
		return err
	})
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(noteOf(p))
	if err != nil {
		return nil, fmt.Errorf("keeping %s: %w", known, err)
	}
	return p, statefile.Write(known, 0o644, b)
}

// withLists has use ask an apt as updatedFor makes it, whose lists are in the cache
// for as long.
func withLists(ctx context.Context, architecture, sources, cache string, use func(apt) error) (err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	dir, err := os.MkdirTemp(cache, ".lists-")
	if err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// apt takes relative names as relative to its own.
	lists, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	a, err := updatedFor(ctx, architecture, lists, sources)
	if err != nil {
		return err
	}
	return use(a)
}

// updatedFor is an apt that knows the sources alone, with their lists in dir, for
// an architecture; empty is the host's.
func updatedFor(ctx context.Context, architecture, dir, sources string) (apt, error) {
	list := filepath.Join(dir, "sources.list")
	if err := os.WriteFile(list, []byte(sources), 0o600); err != nil {
		return nil, fmt.Errorf("asking for lists: %w", err)
	}
	for _, made := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, made), 0o755); err != nil {
			return nil, fmt.Errorf("asking for lists: %w", err)
		}
	}
	a := apt{
		"-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root",
	}
	if architecture != "" {
		a = append(a, "-o", "APT::Architecture="+architecture, "-o", "APT::Architectures="+architecture)
	}
	out, err := exec.CommandContext(ctx, "apt-get", append(slices.Clone(a), "-q", "update")...).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("asking apt for lists: %w", err)
	case err != nil:
		return nil, fmt.Errorf("%w: asking for lists: %w: %s", ErrLists, err, lastLine(out))
	}
	return a, nil
}

// knownPackage is what the cache remembers of a package of a suite.
type knownPackage struct {
	Name    string        `json:"name"`
	Version string        `json:"version"`
	File    string        `json:"file"`
	SHA256  attest.Digest `json:"sha256"`
}

// readKnown answers nil where the cache lacks the package or its file is not
// what it was.
func readKnown(note, cache string) (*Package, error) {
	b, err := os.ReadFile(note)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no package is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("reading the cache: %w", err)
	}
	var k knownPackage
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, nil //nolint:nilnil,nilerr // an unreadable note is made again
	}
	return k.in(cache), nil
}

// in is the package as the cache has it; nil where it was altered there.
func (k knownPackage) in(cache string) *Package {
	p := &Package{Name: k.Name, Version: k.Version, Path: filepath.Join(cache, k.File), SHA256: k.SHA256}
	if digest, _, err := files.Digest(p.Path); err != nil || digest != k.SHA256 || k.File != filepath.Base(k.File) {
		return nil
	}
	return p
}

func noteOf(p *Package) knownPackage {
	return knownPackage{Name: p.Name, Version: p.Version, File: filepath.Base(p.Path), SHA256: p.SHA256}
}
