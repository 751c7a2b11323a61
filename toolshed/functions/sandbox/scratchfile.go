package sandbox

import (
	"io"
	"slices"

	experimental "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/sys"
)

// offset has vet see that this is no io.Seeker, whose Seek answers an error.
type offset = int64

// openFile is a file of the scratch as one descriptor has it.
type openFile struct {
	experimental.UnimplementedFile
	of                     *scratch
	node                   *node
	at                     int64
	reads, writes, appends bool
}

var _ experimental.File = (*openFile)(nil)

func (f *openFile) Ino() (sys.Inode, experimental.Errno)      { return f.node.inode, 0 }
func (f *openFile) IsAppend() bool                            { return f.appends }
func (f *openFile) SetAppend(appends bool) experimental.Errno { f.appends = appends; return 0 }
func (f *openFile) Stat() (sys.Stat_t, experimental.Errno)    { return f.node.stat(), 0 }
func (f *openFile) Sync() experimental.Errno                  { return 0 }
func (f *openFile) Datasync() experimental.Errno              { return 0 }
func (f *openFile) Utimens(int64, int64) experimental.Errno   { return 0 }

// Close is called once: the runtime forgets the descriptor with it.
func (f *openFile) Close() experimental.Errno   { f.of.open--; return 0 }
func (f *openFolder) Close() experimental.Errno { f.of.open--; return 0 }

func (f *openFile) Read(b []byte) (int, experimental.Errno) {
	n, errno := f.Pread(b, f.at)
	f.at += int64(n)
	return n, errno
}

func (f *openFile) Pread(b []byte, off int64) (int, experimental.Errno) {
	switch {
	case !f.reads:
		return 0, experimental.EBADF
	case off < 0:
		return 0, experimental.EINVAL
	case off >= int64(len(f.node.data)):
		return 0, 0
	}
	return copy(b, f.node.data[off:]), 0
}

func (f *openFile) Seek(to offset, whence int) (int64, experimental.Errno) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		to += f.at
	case io.SeekEnd:
		to += int64(len(f.node.data))
	default:
		return 0, experimental.EINVAL
	}
	if to < 0 {
		return 0, experimental.EINVAL
	}
	f.at = to
	return to, 0
}

func (f *openFile) Write(b []byte) (int, experimental.Errno) {
	if f.appends {
		f.at = int64(len(f.node.data))
	}
	n, errno := f.Pwrite(b, f.at)
	f.at += int64(n)
	return n, errno
}

func (f *openFile) Pwrite(b []byte, off int64) (int, experimental.Errno) {
	switch {
	case !f.writes:
		return 0, experimental.EBADF
	case off < 0 || off > maxScratchBytes:
		return 0, experimental.EINVAL
	}
	if end := off + int64(len(b)); end > int64(len(f.node.data)) {
		if errno := f.Truncate(end); errno != 0 {
			return 0, errno
		}
	}
	return copy(f.node.data[off:], b), 0
}

// Truncate counts what it takes of the scratch; it has no number for "no room".
func (f *openFile) Truncate(size int64) experimental.Errno {
	grows := size - int64(len(f.node.data))
	switch {
	case !f.writes:
		return experimental.EBADF
	case size < 0:
		return experimental.EINVAL
	case size > maxScratchBytes || f.of.bytes+grows > maxScratchBytes:
		return experimental.EIO
	}
	f.of.bytes += grows
	if grows <= 0 {
		// A copy, so that what is not counted is not kept.
		f.node.data = slices.Clone(f.node.data[:size])
		return 0
	}
	f.node.data = append(f.node.data, make([]byte, grows)...)
	return 0
}

// openFolder is a folder as one descriptor has it.
type openFolder struct {
	experimental.UnimplementedFile
	of   *scratch
	node *node
	path string
	// left are the names that Readdir has not answered; nil before the first.
	left []string
	read bool
}

var _ experimental.File = (*openFolder)(nil)

func (f *openFolder) IsAppend() bool                         { return false }
func (f *openFolder) SetAppend(bool) experimental.Errno      { return experimental.EISDIR }
func (f *openFolder) IsDir() (bool, experimental.Errno)      { return true, 0 }
func (f *openFolder) Read([]byte) (int, experimental.Errno)  { return 0, experimental.EISDIR }
func (f *openFolder) Write([]byte) (int, experimental.Errno) { return 0, experimental.EISDIR }
func (f *openFolder) Truncate(int64) experimental.Errno      { return experimental.EISDIR }
func (f *openFolder) Ino() (sys.Inode, experimental.Errno)   { return f.node.inode, 0 }
func (f *openFolder) Stat() (sys.Stat_t, experimental.Errno) { return f.node.stat(), 0 }

func (f *openFolder) Pread([]byte, int64) (int, experimental.Errno)  { return 0, experimental.EISDIR }
func (f *openFolder) Pwrite([]byte, int64) (int, experimental.Errno) { return 0, experimental.EISDIR }

// Seek only goes back to the beginning.
func (f *openFolder) Seek(to offset, whence int) (int64, experimental.Errno) {
	if to != 0 || whence != io.SeekStart {
		return 0, experimental.EINVAL
	}
	f.read, f.left = false, nil
	return 0, 0
}

func (f *openFolder) Readdir(n int) (entries []experimental.Dirent, _ experimental.Errno) {
	if !f.read {
		f.read, f.left = true, f.of.children(f.path)
	}
	for len(f.left) > 0 && (n <= 0 || len(entries) < n) {
		p := f.left[0]
		if f.path != "." {
			p = f.path + "/" + p
		}
		if found := f.of.nodes[p]; found != nil {
			entries = append(entries, experimental.Dirent{Name: f.left[0], Ino: found.inode, Type: found.stat().Mode.Type()})
		}
		f.left = f.left[1:]
	}
	return entries, 0
}
