package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// keptBytes is the room on the disk that is kept back for making room: more
// than one log may hold of its database that is not in its file yet
// (checkpointPages and one write), and the log of one more write.
const keptBytes = 4 << 20

// checkpointPages is the length of a log, in pages of 4 KiB, from which a commit
// moves it into its database.
const checkpointPages = 256

// ampleBytes is what has to be free beside the kept room, and beside what is in
// the log, for transactions to share a commit: more than one of them is likely
// to write, once into the log and once into the database.
const ampleBytes = 3 << 20

// A disk that has plentyBytes more than is ample is looked at once in lookEvery
// writes: where others fill it meanwhile, SQLite says so.
const (
	plentyBytes = 256 << 20
	lookEvery   = 64
)

// room is a file whose blocks are allocated and hold nothing, so that nobody
// else on the disk can take them. It is lent to one write at a time on a full
// disk (docs/decisions/0040).
type room struct {
	file *os.File
	// unseen is how many writes need not look at the disk.
	unseen atomic.Int32

	mu sync.Mutex
	// held is how many bytes the file has. Where the file system allocates
	// nothing ahead it stays 0, and keptBytes is a quota alone. mu guards it.
	held int64
}

func openRoom(path string) (*room, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the file that keeps room: %w", err)
	}
	return &room{file: f}, nil
}

// spare runs what needs a little room, and lends it the kept one where the disk
// has no other: lending costs a sync.
func (r *room) spare(log string, use func() error) error {
	if ample, err := r.ample(log); err != nil {
		return err
	} else if ample {
		if err := use(); !isFull(err) {
			return err
		}
	}
	return r.lend(use)
}

// lend runs what may use the kept room. Only one at a time has it.
func (r *room) lend(use func() error) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.release(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.take()) }()
	return use()
}

// ample reports whether there is more free than what is kept, what is in this
// log and what a write adds to both log and database. Who borrows the room
// meanwhile leaves the sum as it is.
func (r *room) ample(log string) (bool, error) {
	held := int64(0)
	if r.mu.TryLock() {
		var err error
		if r.held < keptBytes {
			err = r.take()
		}
		held = r.held
		r.mu.Unlock()
		if err != nil {
			return false, err
		}
	}
	free, err := r.space()
	if err != nil {
		return false, err
	}
	info, err := os.Stat(log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("reading the log's size: %w", err)
	}
	need := int64(ampleBytes)
	if err == nil {
		need += info.Size()
	}
	left := free + held - keptBytes - need
	if left >= plentyBytes {
		r.unseen.Store(lookEvery)
	}
	return left >= 0, nil
}

// likelyAmple is ample, without a look where one was had not long ago and there
// was plenty: looking costs as much as half a write.
func (r *room) likelyAmple(log string) (bool, error) {
	if r.unseen.Add(-1) >= 0 {
		return true, nil
	}
	return r.ample(log)
}

// space is how many bytes the disk has left for this process.
func (r *room) space() (int64, error) {
	n, err := space(r.file)
	if err != nil {
		return 0, fmt.Errorf("reading the free room: %w", err)
	}
	return n, nil
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
	free, err := r.space()
	if err != nil {
		return err
	}
	for size := min(keptBytes, r.held+free); size > r.held; size -= (size-r.held)/8 + 1 {
		err := allocate(r.file, size)
		switch {
		case err == nil:
			r.held = size
		case errors.Is(err, errors.ErrUnsupported):
			return nil
		case !errors.Is(err, errNoSpace):
			return fmt.Errorf("keeping room: %w", err)
		}
	}
	return nil
}

func (r *room) close() error { return r.file.Close() }
