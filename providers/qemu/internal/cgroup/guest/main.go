// Command guest is a host with control groups of version 2, as PID 1 of a
// virtual machine: it starts processes in a group and says what became of them.
//
// Invariants: it is for the test of package cgroup alone; each line that it
// prints begins with a word in capitals, for the test to look for; and the
// machine is off when it is done.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/providers/qemu/internal/cgroup"
)

const (
	mounted = "/sys/fs/cgroup"
	group   = "machine"
	// eat and many are what this program does in the group.
	eat  = "eat"
	many = "many"
)

func main() {
	if len(os.Args) == 2 && os.Getpid() != 1 {
		misbehave(os.Args[1])
		return
	}
	fmt.Println("FINISHED", run(context.Background()))
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("FAILED", err)
	}
}

// misbehave takes more than the group has, or says that it was refused.
func misbehave(how string) {
	switch how {
	case eat:
		const page = 4096
		b := make([]byte, 256<<20)
		for i := 0; i < len(b); i += page {
			b[i] = 1
		}
		fmt.Println("ATE", len(b))
	case many:
		for n := range 100 {
			if err := exec.Command("/init", "wait").Start(); err != nil {
				fmt.Println("REFUSED", n > 0, errors.Is(err, unix.EAGAIN))
				return
			}
		}
		fmt.Println("STARTED all")
	default:
		select {}
	}
}

func run(ctx context.Context) error {
	for _, m := range []struct{ kind, target string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"cgroup2", mounted}} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	parent := cgroup.Parent(filepath.Join(mounted, "shed"))
	if err := os.Mkdir(string(parent), 0o755); err != nil {
		return err
	}
	if err := cgroup.Parent(mounted).Ready(limits); err != nil {
		return err
	}
	if err := parent.Ready(limits); err != nil {
		return err
	}
	fmt.Println("NOT2", cgroup.Parent("/proc").Ready(limits))
	dir, err := parent.Make(group, limits)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, file := range []string{"cpu.weight", "cpu.max", "memory.max", "pids.max"} {
		b, err := os.ReadFile(filepath.Join(string(parent), group, file))
		if err != nil {
			return err
		}
		fmt.Println("LIMIT", file, strings.TrimSpace(string(b)))
	}
	for _, how := range []string{eat, many} {
		fmt.Println("ENDED", how, inGroup(dir, how))
	}
	if err := os.WriteFile(filepath.Join(string(parent), group, "cgroup.kill"), []byte("1"), 0); err != nil {
		return err
	}
	if err := parent.Remove(ctx, group); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(string(parent), group))
	fmt.Println("REMOVED", errors.Is(err, os.ErrNotExist), parent.Remove(ctx, group))
	return nil
}

var limits = cgroup.Limits{CPUWeight: 50, CPUPercent: 150, MemoryBytes: 64 << 20, Pids: 32}

func inGroup(dir *os.File, how string) error {
	cmd := exec.Command("/init", how)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return cmd.Run()
}
