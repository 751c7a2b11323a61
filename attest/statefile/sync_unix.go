//go:build unix

package statefile

import (
	"errors"
	"os"
)

// SyncDir makes a rename in a directory outlive a power failure. Errors are
// those of the file system.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
