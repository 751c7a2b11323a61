// Package statefile writes the small files that a program's state is made of,
// and keeps other processes out of it meanwhile.
//
// Invariants: a file is there whole, as it was before or as it is to be,
// whenever the machine stops; once Write returns, the new content outlives a
// power failure; a lock goes with the process that holds it.
package statefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("in use by another process")

// Write replaces path, whose directory must exist, with content under the
// given mode. Errors are those of the file system; path is then as it was.
func Write(path string, mode os.FileMode, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Lock waits for path, a file that is made where it is missing, to be held by
// nobody else, processes and goroutines alike.
func Lock(path string) (unlock func() error, err error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return lock.Close, nil
}

// TryLock is Lock that does not wait: ErrLocked.
func TryLock(path string) (unlock func() error, err error) {
	lock := flock.New(path, flock.SetPermissions(0o600))
	switch held, err := lock.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("locking %s: %w", path, err)
	case !held:
		return nil, fmt.Errorf("locking %s: %w", path, ErrLocked)
	}
	return lock.Close, nil
}
