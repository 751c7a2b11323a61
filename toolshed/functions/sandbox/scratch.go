package sandbox

import (
	"io/fs"
	"path"
	"slices"
	"strings"

	experimental "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/sys"
)

// The bounds of a call's scratch.
const (
	maxScratchBytes = 8 << 20
	maxScratchFiles = 256
	maxScratchPath  = 512
	// maxScratchOpen bounds the descriptors, each of which is the host's memory.
	maxScratchOpen = 1024
)

// scratch is a file system in memory, for one call: files and folders, no
// links. Times are not kept.
type scratch struct {
	experimental.UnimplementedFS
	// nodes are by their cleaned paths, the root's being ".".
	nodes map[string]*node
	bytes int64
	last  sys.Inode
	open  int
}

type node struct {
	inode  sys.Inode
	folder bool
	data   []byte
}

var _ experimental.FS = (*scratch)(nil)

func newScratch() *scratch {
	return &scratch{nodes: map[string]*node{".": {inode: 1, folder: true}}, last: 1}
}

// clean is the path of a node, and is false where it leads out of the scratch.
func clean(name string) (string, bool) {
	p := path.Clean(strings.TrimPrefix(name, "/"))
	return p, p == "." || fs.ValidPath(p) && len(p) <= maxScratchPath
}

func (n *node) stat() sys.Stat_t {
	st := sys.Stat_t{Ino: n.inode, Nlink: 1, Mode: 0o600, Size: int64(len(n.data))}
	if n.folder {
		st.Mode = fs.ModeDir | 0o700
	}
	return st
}

// add makes a node in a folder that is there.
func (s *scratch) add(p string, folder bool) (*node, experimental.Errno) {
	parent := s.nodes[path.Dir(p)]
	switch {
	case parent == nil:
		return nil, experimental.ENOENT
	case !parent.folder:
		return nil, experimental.ENOTDIR
	case len(s.nodes) > maxScratchFiles:
		return nil, experimental.EIO
	}
	s.last++
	n := &node{inode: s.last, folder: folder}
	s.nodes[p] = n
	return n, 0
}

func (s *scratch) OpenFile(name string, flag experimental.Oflag, _ fs.FileMode) (experimental.File, experimental.Errno) {
	p, ok := clean(name)
	if !ok {
		return nil, experimental.ENOENT
	}
	n := s.nodes[p]
	writes := flag&(experimental.O_RDWR|experimental.O_WRONLY) != 0
	switch {
	case n == nil && flag&experimental.O_CREAT == 0:
		return nil, experimental.ENOENT
	case n == nil:
		var errno experimental.Errno
		if n, errno = s.add(p, false); errno != 0 {
			return nil, errno
		}
	case flag&experimental.O_CREAT != 0 && flag&experimental.O_EXCL != 0:
		return nil, experimental.EEXIST
	case n.folder && writes:
		return nil, experimental.EISDIR
	case !n.folder && flag&experimental.O_DIRECTORY != 0:
		return nil, experimental.ENOTDIR
	}
	if s.open >= maxScratchOpen {
		return nil, experimental.EIO
	}
	if n.folder {
		s.open++
		return &openFolder{of: s, node: n, path: p}, 0
	}
	f := &openFile{of: s, node: n, reads: flag&experimental.O_WRONLY == 0, writes: writes, appends: flag&experimental.O_APPEND != 0}
	if writes && flag&experimental.O_TRUNC != 0 {
		if errno := f.Truncate(0); errno != 0 {
			return nil, errno
		}
	}
	s.open++
	return f, 0
}

func (s *scratch) Stat(name string) (sys.Stat_t, experimental.Errno) {
	p, ok := clean(name)
	if n := s.nodes[p]; ok && n != nil {
		return n.stat(), 0
	}
	return sys.Stat_t{}, experimental.ENOENT
}

func (s *scratch) Lstat(name string) (sys.Stat_t, experimental.Errno) { return s.Stat(name) }

func (s *scratch) Mkdir(name string, _ fs.FileMode) experimental.Errno {
	p, ok := clean(name)
	switch {
	case !ok:
		return experimental.ENOENT
	case s.nodes[p] != nil:
		return experimental.EEXIST
	}
	_, errno := s.add(p, true)
	return errno
}

// children are the names in a folder, in order.
func (s *scratch) children(folder string) (names []string) {
	for p := range s.nodes {
		if p != "." && path.Dir(p) == folder {
			names = append(names, path.Base(p))
		}
	}
	slices.Sort(names)
	return names
}

func (s *scratch) Rmdir(name string) experimental.Errno {
	p, _ := clean(name)
	n := s.nodes[p]
	switch {
	case n == nil:
		return experimental.ENOENT
	case !n.folder:
		return experimental.ENOTDIR
	case p == "." || len(s.children(p)) > 0:
		return experimental.ENOTEMPTY
	}
	delete(s.nodes, p)
	return 0
}

// Unlink gives a file's room back, whoever still has it open: what they write
// then is counted with what is there.
func (s *scratch) Unlink(name string) experimental.Errno {
	p, _ := clean(name)
	n := s.nodes[p]
	switch {
	case n == nil:
		return experimental.ENOENT
	case n.folder:
		return experimental.EISDIR
	}
	s.bytes -= int64(len(n.data))
	n.data = nil
	delete(s.nodes, p)
	return 0
}

// Rename moves a file. Folders stay where they are.
func (s *scratch) Rename(from, to string) experimental.Errno {
	p, _ := clean(from)
	q, ok := clean(to)
	n, parent := s.nodes[p], s.nodes[path.Dir(q)]
	switch {
	case n == nil || !ok || parent == nil:
		return experimental.ENOENT
	case n.folder:
		return experimental.ENOSYS
	case !parent.folder:
		return experimental.ENOTDIR
	case p == q:
		return 0
	}
	if there := s.nodes[q]; there != nil {
		if errno := s.Unlink(to); errno != 0 {
			return errno
		}
	}
	delete(s.nodes, p)
	s.nodes[q] = n
	return 0
}

func (s *scratch) Utimens(name string, _, _ int64) experimental.Errno {
	_, errno := s.Stat(name)
	return errno
}
