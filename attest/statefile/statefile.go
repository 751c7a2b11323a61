// Package statefile writes the small files that a program's state is made of,
// and keeps other processes out of it meanwhile.
//
// Invariants: a file is there whole, as it was before or as it is to be,
// whenever the machine stops; once Write returns, the new content outlives a
// power failure; a lock goes with the process that holds it.
package statefile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("in use by another process")

// ErrNotRegular says that what a file was to replace is a device, a pipe or
// something else that is no file.
var ErrNotRegular = errors.New("not a regular file")

// Write replaces path, whose directory must exist, with content under the
// given mode. Errors are those of the file system, and ErrNotRegular: as root,
// a rename would put a file in the place of /dev/null. path is then as it was.
func Write(path string, mode os.FileMode, content []byte) error {
	return Fill(path, mode, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}

// Sweep removes what a Write of path left beside it when its process was
// killed. Nobody else may be writing path: hold a lock. Errors are those of the
// file system.
func Sweep(path string) error {
	entries, err := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), temporary(path)) {
			err = errors.Join(err, os.Remove(filepath.Join(filepath.Dir(path), e.Name())))
		}
	}
	return err
}

// temporary is how the names of files begin that are to be path.
func temporary(path string) string { return "." + filepath.Base(path) + "-" }

// Fill is Write of what fill writes into the file that is to be path. Errors
// are also those of fill.
func Fill(path string, mode os.FileMode, fill func(*os.File) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("writing %s: %w", path, ErrNotRegular)
	}
	f, err := os.CreateTemp(filepath.Dir(path), temporary(path)+"*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(fill(f), f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Lock waits for path, a file that is made where it is missing, to be held by
// nobody else, processes and goroutines alike. Errors are the file system's.
func Lock(path string) (unlock func() error, err error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return lock.Close, nil
}

// TryLock is Lock that does not wait: ErrLocked.
func TryLock(path string) (unlock func() error, err error) {
	return result(path, func(lock *flock.Flock) (bool, error) { return lock.TryLock() })
}

// lockPoll is how often LockWithin looks.
const lockPoll = 20 * time.Millisecond

// LockWithin is Lock that waits as long as ctx: ErrLocked.
func LockWithin(ctx context.Context, path string) (unlock func() error, err error) {
	return result(path, func(lock *flock.Flock) (bool, error) {
		held, err := lock.TryLockContext(ctx, lockPoll)
		if ctx.Err() != nil {
			return held, nil //nolint:nilerr // somebody else holds it for as long as this caller waits
		}
		return held, err
	})
}

func result(path string, take func(*flock.Flock) (bool, error)) (unlock func() error, err error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	switch held, err := take(lock); {
	case err != nil:
		return nil, fmt.Errorf("locking %s: %w", path, err)
	case !held:
		return nil, fmt.Errorf("locking %s: %w", path, ErrLocked)
	}
	return lock.Close, nil
}
