package kernel

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/internal/files"
)

// The ways in which fetching fails for want of something a person can provide.
var (
	// ErrLists says that apt knows no such package: its lists are missing or
	// too old.
	ErrLists = errors.New("apt does not know the package")
	// ErrDownload says that apt knows the package and could not get it.
	ErrDownload = errors.New("package could not be downloaded")
)

// Package is a package file that was checked against apt's lists.
type Package struct {
	Name    string
	Version string
	Path    string
	SHA256  attest.Digest
}

// Fetch returns the concrete package that the metapackage name stands for,
// downloading it into the directory cache unless it is there already. Errors
// match ErrLists, ErrDownload or ErrPackage.
func Fetch(ctx context.Context, name, cache string) (*Package, error) {
	meta, err := show(ctx, name)
	if err != nil {
		return nil, err
	}
	concrete, version, err := concreteKernel(meta["Depends"])
	if err != nil {
		return nil, fmt.Errorf("%w: %s depends on %.80q", ErrPackage, name, meta["Depends"])
	}
	record, err := show(ctx, concrete+"="+version)
	if err != nil {
		return nil, err
	}
	p := &Package{Name: concrete, Version: version}
	if err := p.SHA256.UnmarshalText([]byte(record["SHA256"])); err != nil {
		return nil, fmt.Errorf("%w: %s: SHA256: %w", ErrLists, concrete, err)
	}
	p.Path = filepath.Join(cache, fileName(concrete, version, record["Architecture"]))
	if digest, _, err := files.Digest(p.Path); err == nil && digest == p.SHA256 {
		return p, nil
	}
	return p, p.download(ctx, cache)
}

// fileName is apt's own, with the version's colon escaped.
func fileName(name, version, architecture string) string {
	return fmt.Sprintf("%s_%s_%s.deb", name, strings.ReplaceAll(version, ":", "%3a"), architecture)
}

func (p *Package) download(ctx context.Context, cache string) (err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	dir, err := os.MkdirTemp(cache, ".download-")
	if err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// As root, apt would become a user that cannot write here.
	cmd := exec.CommandContext(ctx, "apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", p.Name+"="+p.Version)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s: %w: %s", ErrDownload, p.Name, err, lastLine(out))
	}
	got := filepath.Join(dir, filepath.Base(p.Path))
	digest, _, err := files.Digest(got)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDownload, p.Name, err)
	}
	if digest != p.SHA256 {
		return fmt.Errorf("%w: %s has SHA-256 %s, apt's lists say %s", ErrDownload, p.Name, digest, p.SHA256)
	}
	if err := os.Rename(got, p.Path); err != nil {
		return fmt.Errorf("keeping %s: %w", p.Name, err)
	}
	return nil
}

// show asks apt for the candidate's record.
func show(ctx context.Context, name string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, "apt-cache", "--no-all-versions", "show", name)
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("asking apt for %s: %w", name, err)
	}
	record := parseRecord(out)
	if err != nil || record["Package"] == "" {
		return nil, fmt.Errorf("%w: %s", ErrLists, name)
	}
	return record, nil
}

// parseRecord reads the first paragraph of Debian control data, without
// continuation lines.
func parseRecord(b []byte) map[string]string {
	record := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			break
		}
		if key, value, ok := strings.Cut(line, ":"); ok && line[0] != ' ' && line[0] != '\t' {
			record[key] = strings.TrimSpace(value)
		}
	}
	return record
}

// concreteKernel reads "linux-image-6.12.1-cloud-amd64 (= 6.12.1-1)" out of a
// metapackage's dependencies.
func concreteKernel(depends string) (name, version string, err error) {
	for need := range strings.SplitSeq(depends, ",") {
		name, constraint, ok := strings.Cut(strings.TrimSpace(need), " ")
		version, exact := strings.CutPrefix(constraint, "(= ")
		if ok && exact && strings.HasPrefix(name, "linux-image-") && strings.HasSuffix(version, ")") {
			return name, strings.TrimSuffix(version, ")"), nil
		}
	}
	return "", "", ErrPackage
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
