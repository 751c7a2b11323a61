//go:build unix

package statefile

import (
	"errors"
	"os"
)

// syncDir makes a rename outlive a power failure.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
