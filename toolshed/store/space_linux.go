package store

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

const errNoSpace = unix.ENOSPC

// space is how many bytes the file's disk has left for this process.
func space(f *os.File) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return 0, err
	}
	if s.Blocks == 0 {
		// ramfs: bounded by the memory alone.
		return math.MaxInt64 / 2, nil
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// allocate gives the file that many bytes of the disk. The error is
// errors.ErrUnsupported where the file system allocates nothing ahead.
func allocate(f *os.File, size int64) error {
	return unix.Fallocate(int(f.Fd()), 0, 0, size)
}
