// Package erofs writes Linux's read-only file system of that name.
//
// Invariants: an image is a function of its entries' names, modes, links and
// bytes, whatever their order, and of nothing else; all belongs to root and is of
// time 0; nothing is compressed, shared, or outside of the image, so that its
// size is known before a file is read; an entry that cannot be as it says it is
// refuses the whole image.
//
// The format is that of Linux's fs/erofs/erofs_fs.h and
// Documentation/filesystems/erofs.rst, without a feature that a kernel might not
// have. Every inode is of the compact form: what it has no room for, files of
// 4 GiB, other owners, a time of its own, is not in these images.
package erofs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"strings"
)

// ErrEntry says that an entry cannot be in an image, or is not what it says.
var ErrEntry = errors.New("unusable entry of a file system")

// The bounds of an image. A name's and a path's are Linux's; a file's bytes and a
// directory's directories, of which each is a link to it, are the inode's.
const (
	maxEntries     = 1 << 18
	maxBytes       = 1 << 40
	maxFile        = math.MaxUint32
	maxDirectories = math.MaxUint16 - 2
	maxName        = 255
	maxPath        = 4095
)

// keptBits are what is kept of a mode beside the kind.
const keptBits = fs.ModePerm | fs.ModeSticky

// Entry is one file, directory or link.
type Entry struct {
	// Name is its path in the image, without a leading slash. The directories
	// above it are entries too; the root, with mode 0755, is none.
	Name string
	// Mode is of a regular file, a directory or a symbolic link, with permissions
	// and the sticky bit; a link's permissions are Linux's.
	Mode fs.FileMode
	// Link is where a link leads.
	Link string
	// Bytes is a file's length, and Open opens it, once.
	Bytes int64
	Open  func() (io.ReadCloser, error)
}

// Image is a file system that is laid out and not yet written.
type Image struct {
	// nodes are the root and then the entries by name: each directory before what
	// is in it, and what is in a directory in the order that it is searched in.
	nodes  []*node
	blocks int64
}

// node is an entry with its place.
type node struct {
	Entry
	parent      *node
	children    []*node
	directories int
	number      uint32
	// size is the length of its data, which are behind the inode, or else in
	// blocks of their own from block on.
	size, block int64
	// offset is the inode's in the image.
	offset int64
}

// plan is a file system whose entries come in the order of their names.
type plan struct {
	Image
	directories map[string]*node
	bytes       int64
}

// Plan lays out a file system. The error is ErrEntry, with the entry's name.
func Plan(entries []Entry) (*Image, error) {
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("%w: %d of them, and at most %d", ErrEntry, len(entries), maxEntries)
	}
	root := &node{Entry: Entry{Mode: fs.ModeDir | 0o755}, number: 1}
	root.parent = root
	p := plan{directories: map[string]*node{".": root}}
	p.nodes = append(make([]*node, 0, len(entries)+1), root)
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range sorted {
		err := e.check()
		if err == nil {
			err = p.add(e)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %.80q: %w", ErrEntry, e.Name, err)
		}
	}
	p.place()
	return &p.Image, nil
}

// add gives an entry to its directory. The error says what of it does not fit
// with those before.
func (p *plan) add(e Entry) error {
	n := &node{Entry: e, parent: p.directories[path.Dir(e.Name)], number: uint32(len(p.nodes) + 1)}
	p.bytes += e.Bytes
	switch {
	case n.parent == nil:
		return errors.New("its directory is no entry, or no directory")
	case p.nodes[len(p.nodes)-1].Name == e.Name:
		return errors.New("it is there twice")
	case p.bytes > maxBytes:
		return fmt.Errorf("with it there are more than %d bytes", int64(maxBytes))
	}
	if e.Mode.IsDir() {
		p.directories[e.Name] = n
		if n.parent.directories++; n.parent.directories > maxDirectories {
			return fmt.Errorf("there are more than %d directories beside it", maxDirectories)
		}
	}
	n.parent.children = append(n.parent.children, n)
	p.nodes = append(p.nodes, n)
	return nil
}

// Bytes is the length of the image.
func (i *Image) Bytes() int64 { return i.blocks * blockBytes }

// check is what can be said of an entry alone.
func (e *Entry) check() error {
	kind := e.Mode.Type()
	switch {
	case !fs.ValidPath(strings.ToValidUTF8(e.Name, "x")) || e.Name == "." || strings.Contains(e.Name, "\x00"):
		return errors.New("no path")
	case len(e.Name) > maxPath || len(path.Base(e.Name)) > maxName:
		return fmt.Errorf("a path of more than %d bytes, or a name of more than %d", maxPath, maxName)
	case e.Mode&^(fs.ModeType|keptBits) != 0 || kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink:
		return fmt.Errorf("mode %s", e.Mode)
	case kind == 0 && (e.Bytes < 0 || e.Bytes > maxFile):
		return fmt.Errorf("%d bytes, and at most %d", e.Bytes, int64(maxFile))
	case kind == 0 && e.Open == nil:
		return errors.New("a file that cannot be opened")
	case kind != 0 && (e.Bytes != 0 || e.Open != nil):
		return errors.New("bytes of what is no file")
	case kind == fs.ModeSymlink && (e.Link == "" || len(e.Link) > maxPath || strings.Contains(e.Link, "\x00")):
		return fmt.Errorf("a link to %.80q", e.Link)
	case kind != fs.ModeSymlink && e.Link != "":
		return errors.New("a target of what is no link")
	}
	return nil
}
