package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
)

// confinedCommand has this program confine itself and become another. Only
// place.confined uses it.
const confinedCommand = "confined"

// confined is a command of the owner's client that can read its own directory
// and the system's programs and nothing of the control plane's, whoever runs
// it: Landlock keeps it so where the kernel has it (5.13 and later).
func (p place) confined(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	cmd := exec.Command(self, append([]string{confinedCommand, p.client(), p.program("shed")}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.client()}
	cmd.Stderr = os.Stderr
	return cmd
}

func execConfined(args []string) error {
	if len(args) < 3 {
		return errors.New("confined: want the client's directory, a program and its arguments")
	}
	dir, program := args[0], args[1]
	err := landlock.V5.BestEffort().RestrictPaths(
		landlock.RWDirs(dir),
		landlock.ROFiles(program),
		landlock.RODirs("/usr", "/lib", "/etc", "/proc", "/sys").IgnoreIfMissing(),
		landlock.RWFiles("/dev/null", "/dev/tty").IgnoreIfMissing(),
	)
	if err != nil {
		return fmt.Errorf("confining the client: %w", err)
	}
	return syscall.Exec(program, args[1:], os.Environ())
}
