package kv

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// keptBytes is the room on the disk that is kept back for deleting: more than
// the log may hold of the database that is not in its file yet (checkpointPages
// and one write), and the log of one more write.
const keptBytes = 4 << 20

// checkpointPages is the length of the log, in pages of 4 KiB, from which a
// commit moves it into the database.
const checkpointPages = 256

// overheadBytes is more than what a write adds to its value in the log: the
// pages of the tree from its root down, and the frames' headers.
const overheadBytes = 256 << 10

// room is a file whose blocks are allocated and hold nothing, so that nobody
// else on the disk can take them. It is let go for the time of one write on a
// full disk.
//
// The writer's connection guards it.
type room struct {
	file *os.File
	wal  string
	// held is how many bytes the file has. Where the file system allocates
	// nothing ahead, it stays 0 and keptBytes is a quota alone.
	held int64
}

func openRoom(database string) (*room, error) {
	f, err := os.OpenFile(database+"-room", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the file that keeps room: %w", err)
	}
	return &room{file: f, wal: database + "-wal"}, nil
}

// free is how many bytes the disk has left for this process.
func (r *room) free() (int64, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(r.file.Fd()), &s); err != nil {
		return 0, fmt.Errorf("reading the free room: %w", err)
	}
	if s.Blocks == 0 {
		// ramfs: bounded by the memory alone.
		return math.MaxInt64 / 2, nil
	}
	return int64(s.Bavail) * s.Bsize, nil
}

// ample reports whether a write of so many bytes leaves the kept room alone,
// both now, in the log, and when the log is moved into the database.
func (r *room) ample(bytes int) (bool, error) {
	if r.held < keptBytes {
		if err := r.take(); err != nil {
			return false, err
		}
	}
	free, err := r.free()
	if err != nil {
		return false, err
	}
	log, err := os.Stat(r.wal)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("reading the log's size: %w", err)
	}
	need := 2 * int64(bytes+overheadBytes)
	if err == nil {
		need += log.Size()
	}
	return free+r.held-keptBytes >= need, nil
}

// release gives the room back to the file system. The sync makes the blocks
// free at once where a journal holds them until it commits.
func (r *room) release() error {
	r.held = 0
	if err := errors.Join(r.file.Truncate(0), r.file.Sync()); err != nil {
		return fmt.Errorf("releasing the kept room: %w", err)
	}
	return nil
}

// take allocates the room again, or what there is of it.
func (r *room) take() error {
	free, err := r.free()
	if err != nil {
		return err
	}
	for size := min(keptBytes, r.held+free); size > r.held; size -= (size-r.held)/8 + 1 {
		err := unix.Fallocate(int(r.file.Fd()), 0, 0, size)
		switch {
		case err == nil:
			r.held = size
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil
		case !errors.Is(err, unix.ENOSPC):
			return fmt.Errorf("keeping room: %w", err)
		}
	}
	return nil
}

func (r *room) close() error { return r.file.Close() }
