package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	// arriving is where a backup is unpacked, arrived its name once it is
	// whole.
	arriving = ".restore-arriving"
	arrived  = ".restore-arrived"
	// maxFiles bounds the entries of a backup, maxManifest its last one.
	maxFiles    = 1_000_000
	maxManifest = 256 << 20
)

// Stage unpacks a plain backup beside the data, to be put in place when the
// directory is next opened. A database may be another's only where it may be
// replaced, which known says; what has come whole may still be refused by judge,
// which is told where it is. Errors are ErrMalformed, ctx's, judge's, and the
// disk's; after one nothing is left.
func Stage(ctx context.Context, dir string, r io.Reader, known func(name string) bool, judge func(unpacked string) error) (err error) {
	into := filepath.Join(dir, arriving)
	if err := os.RemoveAll(into); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	if err := os.Mkdir(into, 0o700); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(into))
		}
	}()
	if err := unpack(ctx, into, r, known); err != nil {
		return err
	}
	if err := judge(into); err != nil {
		return err
	}
	if err := syncTree(into); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	if err := os.Rename(into, filepath.Join(dir, arrived)); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	return syncDir(dir)
}

func unpack(ctx context.Context, into string, r io.Reader, known func(string) bool) error {
	entries := tar.NewReader(r)
	var found []file
	for {
		h, err := entries.Next()
		switch {
		case err != nil:
			return fmt.Errorf("%w: it ends before its end: %w", ErrMalformed, err)
		case ctx.Err() != nil:
			return ctx.Err()
		case h.Name == manifestName:
			return compare(entries, found)
		case len(found) == maxFiles:
			return fmt.Errorf("%w: more than %d files", ErrMalformed, maxFiles)
		case sparse(h):
			return fmt.Errorf("%w: %.64q has holes, which no backup has", ErrMalformed, h.Name)
		case h.Typeflag != tar.TypeReg || !validName.MatchString(h.Name) || !known(h.Name):
			return fmt.Errorf("%w: %.64q is nothing that is restored", ErrMalformed, h.Name)
		}
		f, err := unpackFile(into, h, entries)
		if err != nil {
			return err
		}
		found = append(found, f)
	}
}

// sparse tells a file whose content is not all in the archive: few bytes of it
// would fill the disk.
func sparse(h *tar.Header) bool {
	for name := range h.PAXRecords {
		if strings.HasPrefix(name, "GNU.sparse.") {
			return true
		}
	}
	return h.Typeflag == tar.TypeGNUSparse
}

func unpackFile(into string, h *tar.Header, from io.Reader) (file, error) {
	path := filepath.Join(into, filepath.FromSlash(h.Name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); errors.Is(err, syscall.ENOTDIR) {
		return file{}, fmt.Errorf("%w: %.64q is in a file", ErrMalformed, h.Name)
	} else if err != nil {
		return file{}, fmt.Errorf("restoring %s: %w", h.Name, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.EISDIR) {
		return file{}, fmt.Errorf("%w: %.64q is there twice", ErrMalformed, h.Name)
	}
	if err != nil {
		return file{}, fmt.Errorf("restoring %s: %w", h.Name, err)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, sum), from)
	if err = errors.Join(err, f.Sync(), f.Close()); errors.Is(err, io.ErrUnexpectedEOF) {
		return file{}, fmt.Errorf("%w: %s ends before its end", ErrMalformed, h.Name)
	} else if err != nil {
		return file{}, fmt.Errorf("restoring %s: %w", h.Name, err)
	}
	return file{Name: h.Name, Size: n, SHA256: inHex(sum)}, nil
}

// compare holds what was found against the manifest.
func compare(r io.Reader, found []file) error {
	var m manifest
	if err := json.NewDecoder(io.LimitReader(r, maxManifest)).Decode(&m); err != nil {
		return fmt.Errorf("%w: its manifest: %w", ErrMalformed, err)
	}
	if m.Version != Version {
		return fmt.Errorf("%w: it has version %d, this toolshed reads %d", ErrMalformed, m.Version, Version)
	}
	if !slices.Equal(m.Files, found) {
		return fmt.Errorf("%w: its files are not those of its manifest", ErrMalformed)
	}
	return nil
}

// PutInPlace moves what Stage unpacked to where it belongs, before anything of
// the directory is opened. A crash in the midst of it is made good by the next
// call. What a fresh toolshed had made goes.
func PutInPlace(dir string) error {
	from := filepath.Join(dir, arrived)
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(filepath.Join(dir, arriving))
	}
	if err != nil {
		return fmt.Errorf("putting a restored backup in place: %w", err)
	}
	for _, e := range entries {
		to := filepath.Join(dir, e.Name())
		if strings.HasSuffix(e.Name(), ".db") {
			// The log of the database that was there is not this one's.
			err = errors.Join(removed(to+"-wal"), removed(to+"-shm"))
		} else {
			err = os.RemoveAll(to)
		}
		if err = errors.Join(err, os.Rename(filepath.Join(from, e.Name()), to)); err != nil {
			return fmt.Errorf("putting a restored backup in place: %w", err)
		}
	}
	if err := errors.Join(syncDir(dir), os.Remove(from), syncDir(dir)); err != nil {
		return fmt.Errorf("putting a restored backup in place: %w", err)
	}
	return nil
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
