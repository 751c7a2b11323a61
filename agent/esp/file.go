package esp

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Extents are where a file's bytes lie on the disk, in their order. Errors match
// ErrNoFile or ErrLayout, or are the disk's.
func (v *Volume) Extents(path string) ([]Extent, error) {
	e, _, _, err := v.find(path)
	if err != nil {
		return nil, err
	}
	clusters, err := v.chain(e.cluster, int64(e.size))
	if err != nil {
		return nil, err
	}
	return v.extents(clusters, int64(e.size)), nil
}

// Bytes is a file's length. Errors are as Extents'.
func (v *Volume) Bytes(path string) (int64, error) {
	e, _, _, err := v.find(path)
	return int64(e.size), err
}

// Reader reads a file. Errors are as Extents'.
func (v *Volume) Reader(path string) (io.Reader, error) {
	extents, err := v.Extents(path)
	if err != nil {
		return nil, err
	}
	parts := make([]io.Reader, len(extents))
	for i, e := range extents {
		parts[i] = io.NewSectionReader(v.disk, e.Offset, e.Bytes)
	}
	return io.MultiReader(parts...), nil
}

// Write makes a file of the next size bytes of from, in directories that it makes
// where they are missing; one of that name is removed first. Errors match ErrNoRoom
// or ErrLayout, or are from's or the disk's; where there is one, there is no file
// of that name, and the others are as they were.
func (v *Volume) Write(path string, size int64, from io.Reader) error {
	if size < 1 || size > math.MaxUint32 {
		return fmt.Errorf("writing %s: %d bytes are no size of a file", path, size)
	}
	if err := v.Remove(path); err != nil && !errors.Is(err, ErrNoFile) {
		return err
	}
	directory, name, err := v.directoryOf(path)
	if err != nil {
		return err
	}
	at, err := v.freeEntry(directory)
	if err != nil {
		return err
	}
	clusters, err := v.allocate(size)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := v.fill(v.extents(clusters, size), from); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := v.link(clusters); err != nil {
		return err
	}
	return v.name(entry{name: name, attribute: attributeArchive, cluster: clusters[0], size: uint32(size), at: at})
}

// name makes what was written and linked before a file.
func (v *Volume) name(e entry) error {
	if err := v.sync(); err != nil {
		return err
	}
	if err := v.write(e.at, e.encode()); err != nil {
		return err
	}
	return v.sync()
}

// chunkBytes is how much is written at a time.
const chunkBytes = 256 << 10

func (v *Volume) fill(extents []Extent, from io.Reader) error {
	b := make([]byte, chunkBytes)
	for _, e := range extents {
		for e.Bytes > 0 {
			part := b[:min(chunkBytes, e.Bytes)]
			if _, err := io.ReadFull(from, part); err != nil {
				return err
			}
			if err := v.write(e.Offset, part); err != nil {
				return err
			}
			e.Offset += int64(len(part))
			e.Bytes -= int64(len(part))
		}
	}
	return v.sync()
}

// directoryOf is the cluster of a path's directory, which it makes where it is
// missing, and the path's last name.
func (v *Volume) directoryOf(path string) (directory uint32, last [11]byte, err error) {
	for {
		_, directory, rest, err := v.find(path)
		if !errors.Is(err, ErrNoFile) {
			return 0, last, errors.Join(err, errorIf(err == nil, "%s is there already", path))
		}
		name, _, deeper := strings.Cut(rest, "/")
		short, err := ShortName(name)
		if err != nil {
			return 0, last, err
		}
		if !deeper {
			return directory, short, nil
		}
		if err := v.makeDirectory(directory, short); err != nil {
			return 0, last, err
		}
	}
}

func errorIf(holds bool, format string, args ...any) error {
	if !holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func (v *Volume) makeDirectory(parent uint32, name [11]byte) error {
	at, err := v.freeEntry(parent)
	if err != nil {
		return err
	}
	clusters, err := v.allocate(v.clusterBytes)
	if err != nil {
		return err
	}
	// A parent that is the root is named 0, whatever its cluster.
	above := parent
	if parent == v.root {
		above = 0
	}
	b := make([]byte, v.clusterBytes)
	copy(b, entry{name: [11]byte([]byte(".          ")), attribute: attributeDirectory, cluster: clusters[0]}.encode())
	copy(b[entryBytes:], entry{name: [11]byte([]byte("..         ")), attribute: attributeDirectory, cluster: above}.encode())
	if err := v.write(v.offset(clusters[0]), b); err != nil {
		return err
	}
	if err := v.link(clusters); err != nil {
		return err
	}
	return v.name(entry{name: name, attribute: attributeDirectory, cluster: clusters[0], at: at})
}

// Remove removes a file. The error is ErrNoFile where there is none, matches
// ErrLayout, or is the disk's.
func (v *Volume) Remove(path string) error {
	e, _, _, err := v.find(path)
	if err != nil {
		return err
	}
	clusters, err := v.chain(e.cluster, int64(e.size))
	if err != nil {
		return err
	}
	if _, err := v.used(); err != nil {
		return err
	}
	if err := v.write(e.at, []byte{entryDeleted}); err != nil {
		return err
	}
	if err := v.sync(); err != nil {
		return err
	}
	if err := v.release(clusters); err != nil {
		return err
	}
	return v.sync()
}

// Swap has two files of one directory change places, by the write of one sector:
// whenever the power is cut, each name has one of them whole. The error is
// ErrNoFile where one is missing, ErrLayout where they are not named side by side,
// or the disk's.
func (v *Volume) Swap(a, b string) error {
	first, _, _, err := v.find(a)
	if err != nil {
		return err
	}
	second, _, _, err := v.find(b)
	if err != nil {
		return err
	}
	at := first.at / sectorBytes * sectorBytes
	if at != second.at/sectorBytes*sectorBytes {
		return layout("%s and %s are named in two sectors", a, b)
	}
	sector, err := v.read(at, sectorBytes)
	if err != nil {
		return err
	}
	first.name, second.name = second.name, first.name
	copy(sector[first.at-at:], first.encode())
	copy(sector[second.at-at:], second.encode())
	if err := v.write(at, sector); err != nil {
		return err
	}
	return v.sync()
}
