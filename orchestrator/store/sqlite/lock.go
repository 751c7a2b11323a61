package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/toolshed-cloud/shed/attest/statefile"
)

// LockedError says that another process has the state directory.
type LockedError struct {
	Dir string
	// PID is that process, 0 where it is not known.
	PID int
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("state directory %s is in use by process %d", e.Dir, e.PID)
}

// acquire takes the directory for this process, and writes down which it is,
// for people only. It fails with a *LockedError.
func acquire(dir string) (release func() error, err error) {
	path := filepath.Join(dir, "lock")
	release, err = statefile.TryLock(path)
	if errors.Is(err, statefile.ErrLocked) {
		return nil, &LockedError{Dir: dir, PID: holder(path)}
	}
	if err != nil {
		return nil, fmt.Errorf("taking the state directory: %w", err)
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("writing the state directory's lock: %w", err), release())
	}
	return release, nil
}

func holder(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}
