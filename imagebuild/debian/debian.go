// Package debian fetches packages of Debian's without installing them.
//
// Invariants: what Fetch returns has the digest that lists signed by Debian
// name; nothing in a package is run; the host's own apt is asked, never
// changed.
package debian

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
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
	// ErrArchive says that a package file cannot be unpacked.
	ErrArchive = errors.New("unusable package file")
)

// Package is a package file that was checked against apt's lists.
type Package struct {
	Name    string
	Version string
	Path    string
	SHA256  attest.Digest
}

// apt is an apt with its own options: the host's, where there are none.
type apt []string

// Fetch returns the package that the host's lists have under this name, of the
// version where one is named, downloading it into the directory cache unless
// it is there already. Errors match ErrLists or ErrDownload.
func Fetch(ctx context.Context, name, version, cache string) (*Package, error) {
	return apt(nil).fetch(ctx, name, version, cache)
}

func (a apt) fetch(ctx context.Context, name, version, cache string) (*Package, error) {
	wanted := name
	if version != "" {
		wanted += "=" + version
	}
	record, err := a.show(ctx, wanted)
	if err != nil {
		return nil, err
	}
	// The version asked for, where the record leaves it out.
	p := &Package{Name: name, Version: cmp.Or(record["Version"], version)}
	if err := p.SHA256.UnmarshalText([]byte(record["SHA256"])); err != nil {
		return nil, fmt.Errorf("%w: %s: SHA256: %w", ErrLists, name, err)
	}
	p.Path = filepath.Join(cache, fileName(name, p.Version, record["Architecture"]))
	if digest, _, err := files.Digest(p.Path); err == nil && digest == p.SHA256 {
		return p, nil
	}
	return p, a.download(ctx, p, cache)
}

// Depends returns what the host's lists say that a package depends on. Errors
// match ErrLists.
func Depends(ctx context.Context, name string) (string, error) {
	record, err := apt(nil).show(ctx, name)
	return record["Depends"], err
}

// fileName is apt's own, with the version's colon escaped.
func fileName(name, version, architecture string) string {
	return fmt.Sprintf("%s_%s_%s.deb", name, strings.ReplaceAll(version, ":", "%3a"), architecture)
}

func (a apt) download(ctx context.Context, p *Package, cache string) (err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	dir, err := os.MkdirTemp(cache, ".download-")
	if err != nil {
		return fmt.Errorf("making the cache: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// As root, apt would become a user that cannot write here.
	cmd := exec.CommandContext(ctx, "apt-get", append(slices.Clone(a), "-q", "-o", "APT::Sandbox::User=root", "download", p.Name+"="+p.Version)...)
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
func (a apt) show(ctx context.Context, name string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, "apt-cache", append(slices.Clone(a), "--no-all-versions", "show", name)...)
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

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// Files calls keep with each regular file of a package file that wanted names,
// by its path without the leading "./". More than limit bytes of them are
// refused. Errors match ErrArchive or are keep's.
func Files(ctx context.Context, file string, limit int64, wanted func(name string) bool, keep func(name string, data []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", path.Base(file), err)
	}
	var complaint strings.Builder
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("unpacking %s: %w", path.Base(file), err)
	}
	readErr := Read(tar.NewReader(out), limit, wanted, keep)
	if readErr != nil {
		cancel()
	}
	if err := cmd.Wait(); err != nil && readErr == nil {
		return fmt.Errorf("%w: %s: %w: %s", ErrArchive, path.Base(file), err, strings.TrimSpace(complaint.String()))
	}
	return readErr
}

// Read is Files of an archive that is unpacked already.
func Read(archive *tar.Reader, limit int64, wanted func(string) bool, keep func(string, []byte) error) error {
	room := limit
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
		name := strings.TrimPrefix(header.Name, "./")
		if header.Typeflag != tar.TypeReg || !wanted(name) {
			continue
		}
		if room -= header.Size; room < 0 {
			return fmt.Errorf("%w: it unpacks to more than %d bytes", ErrArchive, limit)
		}
		data := make([]byte, header.Size)
		if _, err := io.ReadFull(archive, data); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrArchive, name, err)
		}
		if err := keep(name, data); err != nil {
			return err
		}
	}
}
