// Package group makes the payload's control group, with what it may use of the
// machine (Linux, Documentation/admin-guide/cgroup-v2.rst).
//
// Invariants: a limit that cannot be set is an error; the group has the payload's
// processes and no other.
package group

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/payload"
)

// Root is where control groups are on a machine, and name the payload's there.
const (
	Root = "/sys/fs/cgroup"
	name = "payload"
)

// Mount mounts control groups. Those that are mounted already stay. Errors are
// the kernel's.
func Mount() error {
	err := unix.Mount("cgroup2", Root, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mounting control groups: %w", err)
	}
	return nil
}

// Make makes the group below root, and answers its directory. Errors are the
// kernel's.
func Make(root string, l payload.Limits) (string, error) {
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("making the payload's control group: %w", err)
	}
	controllers := "+pids"
	if l.MemoryBytes > 0 {
		controllers += " +memory"
	}
	set := []struct{ file, value string }{
		{filepath.Join(root, "cgroup.subtree_control"), controllers},
		{filepath.Join(dir, "pids.max"), strconv.Itoa(l.Processes)},
	}
	if l.MemoryBytes > 0 {
		// There is nowhere to swap to.
		set = append(set, struct{ file, value string }{filepath.Join(dir, "memory.max"), strconv.FormatInt(l.MemoryBytes, 10)})
	}
	for _, s := range set {
		// They are there: a limit that the kernel does not know is not made.
		f, err := os.OpenFile(s.file, os.O_WRONLY, 0)
		if err != nil {
			return "", fmt.Errorf("limiting the payload: %w", err)
		}
		_, err = f.WriteString(s.value)
		if err = errors.Join(err, f.Close()); err != nil {
			return "", fmt.Errorf("limiting the payload: %w", err)
		}
	}
	return dir, nil
}
