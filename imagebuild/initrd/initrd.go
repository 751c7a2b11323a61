// Package initrd makes the archive that the kernel unpacks as its root.
//
// Invariants: the same entries give the same bytes, whatever their order;
// everything belongs to root and carries no time; a file is never added twice
// with different bytes, and every directory that a path needs exists.
package initrd

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

// ErrEntry says that an entry cannot be in the archive.
var ErrEntry = errors.New("invalid initrd entry")

// Archive collects entries. Paths are relative to the root, without a leading
// slash.
type Archive struct {
	entries map[string]entry
}

type entry struct {
	mode         uint64
	data         []byte
	major, minor uint64
}

// New returns an empty archive.
func New() *Archive { return &Archive{entries: map[string]entry{}} }

// File adds a regular file.
func (a *Archive) File(name string, permissions uint64, data []byte) error {
	return a.add(name, entry{mode: cpio.S_IFREG | permissions, data: data})
}

// Directory adds a directory.
func (a *Archive) Directory(name string, permissions uint64) error {
	return a.add(name, entry{mode: cpio.S_IFDIR | permissions})
}

// Symlink adds a link that leads to target.
func (a *Archive) Symlink(name, target string) error {
	return a.add(name, entry{mode: cpio.S_IFLNK | 0o777, data: []byte(target)})
}

// CharDevice adds a character device.
func (a *Archive) CharDevice(name string, permissions, major, minor uint64) error {
	return a.add(name, entry{mode: cpio.S_IFCHR | permissions, major: major, minor: minor})
}

func (a *Archive) add(name string, e entry) error {
	if name == "" || name == "." || path.IsAbs(name) || path.Clean(name) != name || strings.HasPrefix(name, "..") {
		return fmt.Errorf("%w: path %q", ErrEntry, name)
	}
	if old, ok := a.entries[name]; ok && (old.mode != e.mode || !bytes.Equal(old.data, e.data)) {
		return fmt.Errorf("%w: %q is there already and differs", ErrEntry, name)
	}
	if parent := path.Dir(name); parent != "." {
		if _, ok := a.entries[parent]; !ok {
			if err := a.Directory(parent, 0o755); err != nil {
				return err
			}
		}
		if a.entries[parent].mode&cpio.S_IFMT != cpio.S_IFDIR {
			return fmt.Errorf("%w: %q is not a directory", ErrEntry, parent)
		}
	}
	a.entries[name] = e
	return nil
}

// Bytes returns the archive, compressed.
func (a *Archive) Bytes() ([]byte, error) {
	raw, err := a.archive()
	if err != nil {
		return nil, err
	}
	// One thread, because several cut the input differently from run to run;
	// no checksum of its own, because every byte is measured.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(windowSize))
	if err != nil {
		return nil, fmt.Errorf("compressing initrd: %w", err)
	}
	return enc.EncodeAll(raw, nil), nil
}

// windowSize is the largest that lib/decompress_unzstd.c of the kernel takes
// without trouble on small machines.
const windowSize = 8 << 20

func (a *Archive) archive() ([]byte, error) {
	var out bytes.Buffer
	w := cpio.Newc.Writer(&out)
	// Sorted, so that a directory stands before what is in it.
	for i, name := range slices.Sorted(maps.Keys(a.entries)) {
		e := a.entries[name]
		record := cpio.MakeReproducible(cpio.StaticRecord(e.data, cpio.Info{
			Ino: uint64(i + 1), Mode: e.mode, NLink: 1, Rmajor: e.major, Rminor: e.minor, Name: name,
		}))
		if err := w.WriteRecord(record); err != nil {
			return nil, fmt.Errorf("writing %s into the initrd: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, fmt.Errorf("ending the initrd: %w", err)
	}
	return out.Bytes(), nil
}
