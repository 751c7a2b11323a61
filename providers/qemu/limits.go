package qemu

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/cgroup"
)

// limits are the settings that bound a machine's processes.
type limits struct {
	// Cgroup is the directory that groups are made in.
	Cgroup     string `json:"cgroup"`
	CPUWeight  int    `json:"cpu_weight"`
	CPUPercent int    `json:"cpu_percent"`
	IOWeight   int    `json:"io_weight"`
	// MemoryExtraBytes is beside the machine's own memory; 0 for no bound on
	// both.
	MemoryExtraBytes int64 `json:"memory_extra_bytes"`
	Pids             int   `json:"pids"`
}

func (l *limits) check() error {
	switch {
	case !filepath.IsAbs(l.Cgroup):
		return fmt.Errorf("limits: cgroup %q is not an absolute path", l.Cgroup)
	case l.MemoryExtraBytes < 0:
		return fmt.Errorf("limits: memory_extra_bytes is %d", l.MemoryExtraBytes)
	}
	if err := l.of(0).Check(); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	return nil
}

// of are the limits of a machine with so much memory.
func (l *limits) of(memoryBytes int64) cgroup.Limits {
	out := cgroup.Limits{CPUWeight: l.CPUWeight, CPUPercent: l.CPUPercent, IOWeight: l.IOWeight, Pids: l.Pids}
	if l.MemoryExtraBytes != 0 {
		out.MemoryBytes = memoryBytes + l.MemoryExtraBytes
	}
	return out
}

func (l *limits) parent() cgroup.Parent { return cgroup.Parent(l.Cgroup) }

// limitsReady refuses settings that this host cannot keep.
func (s settings) limitsReady() error {
	if s.Limits == nil {
		return nil
	}
	if err := s.Limits.parent().Ready(s.Limits.of(s.MemoryBytes)); err != nil {
		e := providers.Errorf(providers.CodeInvalid, "settings: limits: %s", err)
		e.Hint = "cgroup is a directory of its own in a cgroup2 file system, without processes, in which the controllers are on (cgroup.subtree_control of the one above)"
		return e
	}
	return nil
}

// groupName is what the group of a machine is called.
func groupName(id providers.MachineID) string { return "machine-" + string(id) }

// openGroup makes the group of a machine's processes; nil where the settings name
// no limits.
func (c *config) openGroup(r record) (*os.File, error) {
	if c.Limits == nil {
		return nil, nil //nolint:nilnil // no limits are a state, not a failure
	}
	return c.Limits.parent().Make(groupName(r.Machine), c.Limits.of(r.MemoryBytes))
}

// removeGroup removes the group of a machine whose processes have ended.
func (c *config) removeGroup(ctx context.Context, id providers.MachineID) error {
	if c.Limits == nil {
		return nil
	}
	return c.Limits.parent().Remove(ctx, groupName(id))
}

// process is how a machine's processes are started: in sessions of their own, and
// in their group from the first instruction on.
func process(group *os.File) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if group != nil {
		attr.UseCgroupFD, attr.CgroupFD = true, int(group.Fd())
	}
	return attr
}
