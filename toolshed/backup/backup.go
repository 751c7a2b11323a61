// Package backup writes everything that a toolshed keeps into one file, and
// puts it into a fresh one.
//
// Invariants: what leaves is encrypted to a recipient, with whom the key stays;
// each database is one state of it; a file that is not whole restores nothing;
// what is restored is put in place before any of it is opened, all of it or
// none, whatever happens in between; nothing that is there is ever overwritten.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"filippo.io/age"
)

// Version is that of the file's form.
const Version = 1

// manifestName is the last entry's: without it a file is not whole.
const manifestName = "manifest.json"

// The sentinels of restoring.
var (
	// ErrMalformed says that a file is no backup, or not a whole one.
	ErrMalformed = errors.New("not a whole backup")
	// ErrNotFresh says that there is something that restoring would overwrite.
	ErrNotFresh = errors.New("this toolshed keeps something already")
)

// Database is one that can be copied while it is used.
type Database interface {
	// Backup writes one state of it into a new file.
	Backup(ctx context.Context, path string) error
	// Adopt sees that a file can take its place, and brings it to its form. The
	// error is store.ErrUnfit where it cannot.
	Adopt(ctx context.Context, path string) error
}

// Source is what is backed up.
type Source struct {
	// Dir is the data directory, where copies are made for a moment.
	Dir string
	// Databases are by their files' names, Folders the names of directories
	// beside them whose files never change once they have their names.
	Databases map[string]Database
	Folders   []string
	Now       func() time.Time
}

// manifest lists the entries before it.
type manifest struct {
	Version int       `json:"version"`
	At      time.Time `json:"at"`
	Files   []file    `json:"files"`
}

type file struct {
	Name   string `json:"name"`
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"`
}

// ParseRecipient reads an age recipient, age1….
func ParseRecipient(text string) (age.Recipient, error) {
	r, err := age.ParseX25519Recipient(text)
	if err != nil {
		return nil, fmt.Errorf("it is no age recipient: %w", err)
	}
	return r, nil
}

// Write writes everything, encrypted to the recipient. What was written before
// an error is of no use to anybody: a reader sees that its end is missing.
func (s Source) Write(ctx context.Context, w io.Writer, to age.Recipient) error {
	sealed, err := age.Encrypt(w, to)
	if err != nil {
		return fmt.Errorf("encrypting the backup: %w", err)
	}
	if err := s.WritePlain(ctx, sealed); err != nil {
		return err
	}
	if err := sealed.Close(); err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	return nil
}

// WritePlain is Write without encryption, for whoever encrypts.
func (s Source) WritePlain(ctx context.Context, w io.Writer) error {
	out := &writer{tar: tar.NewWriter(w), manifest: manifest{Version: Version, At: s.Now().UTC().Truncate(time.Second)}}
	for _, name := range slices.Sorted(maps.Keys(s.Databases)) {
		if err := s.copyDatabase(ctx, out, name); err != nil {
			return fmt.Errorf("backing up %s: %w", name, err)
		}
	}
	for _, folder := range s.Folders {
		if err := s.copyFolder(ctx, out, folder); err != nil {
			return fmt.Errorf("backing up %s: %w", folder, err)
		}
	}
	return out.end()
}

func (s Source) copyDatabase(ctx context.Context, out *writer, name string) (err error) {
	copied := filepath.Join(s.Dir, "."+name+".backup")
	// One that a crash left.
	if err := os.Remove(copied); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.Databases[name].Backup(ctx, copied); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(copied)) }()
	return out.add(name, copied)
}

func (s Source) copyFolder(ctx context.Context, out *writer, folder string) error {
	return filepath.WalkDir(filepath.Join(s.Dir, folder), func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// Deleted since, or a folder that nothing was put into yet.
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case !d.Type().IsRegular():
			return nil
		}
		name, err := filepath.Rel(s.Dir, path)
		if err != nil {
			return err
		}
		return out.add(filepath.ToSlash(name), path)
	})
}

type writer struct {
	tar      *tar.Writer
	manifest manifest
}

func (w *writer) add(name, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.header(name, info.Size()); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(w.tar, sum), io.LimitReader(f, info.Size())); err != nil {
		return err
	}
	w.manifest.Files = append(w.manifest.Files, file{Name: name, Size: info.Size(), SHA256: inHex(sum)})
	return nil
}

func inHex(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func (w *writer) header(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: w.manifest.At, Format: tar.FormatPAX})
}

func (w *writer) end() error {
	b, err := json.Marshal(w.manifest)
	if err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	if err := w.header(manifestName, int64(len(b))); err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	if _, err := w.tar.Write(b); err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("ending the backup: %w", err)
	}
	return nil
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}(\.db|(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){1,4})$`)
