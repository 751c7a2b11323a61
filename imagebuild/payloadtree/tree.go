// Package payloadtree takes a directory as the root of a payload: it reads it, says
// what is missing in it, and packs it.
//
// Invariants: nothing outside the directory is read or looked for, whatever its
// links say; of a file only its name, its bytes and whether it may be executed
// count, so that the same files give the same bytes whoever owns them and whenever
// they were made; nothing in it is run.
package payloadtree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// ErrTree says that a directory cannot be a payload's root.
var ErrTree = errors.New("unusable payload directory")

// The bounds on a directory.
const (
	maxEntries = 200_000
	maxBytes   = 3 << 30
	maxLinks   = 40
)

// Entry is one name of the tree.
type Entry struct {
	// Mode is a directory's, a link's, or a regular file's with 0644 or 0755.
	Mode fs.FileMode
	// Link is where a link leads.
	Link string
	// Bytes is a file's length, and source where its bytes are.
	Bytes  int64
	source string
	data   []byte
}

// Tree is a payload's root. Its names are paths without a leading slash.
type Tree struct {
	entries map[string]Entry
	// Bytes are those of all files.
	Bytes int64
}

// New is a tree of nothing.
func New() *Tree { return &Tree{entries: map[string]Entry{}} }

// permissions leave of a mode whether it may be executed.
func permissions(mode fs.FileMode) fs.FileMode {
	if mode&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// Read reads a directory. Errors match ErrTree, or are the file system's.
func Read(dir string) (*Tree, error) {
	t := New()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil || relative == "." {
			if err == nil && !d.IsDir() {
				err = fmt.Errorf("%w: %s is no directory", ErrTree, dir)
			}
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return t.read(filepath.ToSlash(relative), name, info)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	return t, nil
}

func (t *Tree) read(name, source string, info fs.FileInfo) error {
	e := Entry{Mode: info.Mode().Type()}
	switch {
	case info.IsDir():
		e.Mode |= 0o755
	case info.Mode()&fs.ModeSymlink != 0:
		var err error
		if e.Link, err = os.Readlink(source); err != nil {
			return err
		}
		e.Mode |= 0o777
	case info.Mode().IsRegular():
		e.Mode, e.Bytes, e.source = permissions(info.Mode()), info.Size(), source
	default:
		return fmt.Errorf("%w: %s is a device, a socket or a pipe", ErrTree, name)
	}
	return t.put(name, e)
}

func (t *Tree) put(name string, e Entry) error {
	t.entries[name] = e
	t.Bytes += e.Bytes
	if len(t.entries) > maxEntries || t.Bytes > maxBytes {
		return fmt.Errorf("%w: more than %d files or %d bytes", ErrTree, maxEntries, int64(maxBytes))
	}
	return nil
}

// Names are all of the tree's, a directory before what is in it.
func (t *Tree) Names() []string {
	names := make([]string, 0, len(t.entries))
	for name := range t.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Entry is what a name stands for.
func (t *Tree) Entry(name string) (Entry, bool) {
	e, ok := t.entries[name]
	return e, ok
}

// Data are a file's bytes. Errors match ErrTree where it changed meanwhile, or are
// the file system's.
func (t *Tree) Data(name string) ([]byte, error) {
	e := t.entries[name]
	if e.data != nil || e.source == "" {
		return e.data, nil
	}
	b, err := os.ReadFile(e.source)
	if err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	if int64(len(b)) != e.Bytes {
		return nil, fmt.Errorf("%w: %s has changed meanwhile", ErrTree, name)
	}
	return b, nil
}

// Ensure puts a directory where there is none, with those above it; the root is
// there always. The error is ErrTree where something else is there.
func (t *Tree) Ensure(dir string, mode fs.FileMode) error {
	if dir == "." {
		return nil
	}
	for i, r := range dir + "/" {
		if r != '/' {
			continue
		}
		above := dir[:i]
		e, there := t.entries[above]
		if there && !e.Mode.IsDir() {
			return fmt.Errorf("%w: %s is no directory, and the machine mounts there", ErrTree, above)
		}
		if !there {
			if err := t.put(above, Entry{Mode: fs.ModeDir | 0o755}); err != nil {
				return err
			}
		}
	}
	e := t.entries[dir]
	e.Mode = fs.ModeDir | mode
	t.entries[dir] = e
	return nil
}

// Put makes a file what the machine has it be, whatever it was, and its directory.
// Errors match ErrTree.
func (t *Tree) Put(name string, data []byte) error {
	if err := t.Ensure(path.Dir(name), 0o755); err != nil {
		return err
	}
	if e, there := t.entries[name]; there {
		if e.Mode.IsDir() {
			return fmt.Errorf("%w: %s is a directory", ErrTree, name)
		}
		t.Bytes -= e.Bytes
	}
	return t.put(name, Entry{Mode: 0o644, Bytes: int64(len(data)), data: data})
}

// Executable is Put for a program.
func (t *Tree) Executable(name string, data []byte) error {
	if err := t.Put(name, data); err != nil {
		return err
	}
	e := t.entries[name]
	e.Mode = 0o755
	t.entries[name] = e
	return nil
}

// Default is Put for a file that is left as it is where there is one.
func (t *Tree) Default(name string, data []byte) error {
	if _, there := t.entries[name]; there {
		return nil
	}
	return t.Put(name, data)
}

// Resolve follows links as a process in this root would, and answers the name of
// what is there.
func (t *Tree) Resolve(name string) (string, bool) {
	rest, at := strings.Split(strings.Trim(name, "/"), "/"), ""
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if at = path.Dir(at); at == "." {
				at = ""
			}
			continue
		}
		next := path.Join(at, part)
		e, there := t.entries[next]
		if !there || len(rest) > 0 && e.Mode.IsRegular() {
			return "", false
		}
		if e.Mode&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", false
		}
		if path.IsAbs(e.Link) {
			at = ""
		}
		rest = append(strings.Split(e.Link, "/"), rest...)
	}
	return at, at != ""
}
