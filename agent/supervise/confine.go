package supervise

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Confinement is what the payload cannot leave: a user of its own without any
// capability, also through a set-user-id program; no network, no devices' keys,
// no descriptor of the agent's, no process to signal but its own; and no system
// call that a server has no use for. That it sees no other processes in /proc
// is a matter of how that is mounted (package boot).
type Confinement struct {
	UID, GID int
	// Self is a program whose main calls Confine: the agent itself.
	Self string
}

// confineName is argv[0] of a program that is to confine itself.
const confineName = "shed-confine"

// wrap makes cmd start by way of Self, which confines itself and then becomes
// what cmd was.
func (c *Confinement) wrap(cmd *exec.Cmd) {
	cmd.Args = append([]string{confineName, strconv.Itoa(c.UID), strconv.Itoa(c.GID)}, cmd.Path)
	cmd.Path = c.Self
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		Setsid:     true,
	}
}

// Confine does nothing but in a process that a Confinement started: there it
// gives up what the payload may not have and becomes the payload, or ends. It
// must come first in main.
func Confine() {
	if len(os.Args) == 0 || os.Args[0] != confineName {
		return
	}
	// To the payload's output, which is its owner's.
	fmt.Fprintf(os.Stderr, "confining the payload: %v\n", becomePayload(os.Args[1:]))
	os.Exit(1)
}

func becomePayload(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments, want user, group and path", len(args))
	}
	uid, uidErr := strconv.Atoi(args[0])
	gid, gidErr := strconv.Atoi(args[1])
	if err := errors.Join(uidErr, gidErr); err != nil {
		return err
	}
	// Capabilities, no_new_privs and the filter are a thread's; execve makes
	// this one the process.
	runtime.LockOSThread()
	if err := dropBoundingSet(); err != nil {
		return err
	}
	if err := becomeUser(uid, gid); err != nil {
		return err
	}
	// The agent holds the TPM, disks and a raw socket, and not all that it links
	// opens them for itself alone.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("closing the agent's descriptors: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	if err := filterSystemCalls(); err != nil {
		return err
	}
	return fmt.Errorf("starting %s: %w", args[2], unix.Exec(args[2], args[2:], os.Environ()))
}

// dropBoundingSet leaves no capability for any program to regain
// (capabilities(7)). The kernel says which number is one too many.
func dropBoundingSet() error {
	for capability := uintptr(0); ; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && capability > unix.CAP_LAST_CAP-8 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("dropping capability %d: %w", capability, err)
		}
	}
}

func becomeUser(uid, gid int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("leaving groups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("becoming group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("becoming user %d: %w", uid, err)
	}
	return nil
}
