package supervise

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/strictjson"
)

// Confinement is what the payload cannot leave: a user of its own without any
// capability, also through a set-user-id program; a root of its own; its control
// group, with the limits and the filter on that; no descriptor of the agent's, no
// process to signal but its own; and no system call that a server has no use for.
type Confinement struct {
	UID, GID int
	// Self is a program whose main calls Confine: the agent itself.
	Self string
	// Root is the directory that becomes its root; empty is the machine's.
	Root string
	// Places are directories of the machine that it has at the same path.
	Places []string
	// Group is the directory of its control group; empty is the agent's.
	Group string
	// Alone gives it a network with nothing in it.
	Alone bool
	// OpenFiles is how many it may have open; zero is as many as the agent.
	OpenFiles int
}

// confineName is argv[0] of a program that is to confine itself; what is to be
// given up follows, and then the payload's command.
const confineName = "shed-confine"

// order is what a process is to do to itself.
type order struct {
	UID, GID  int
	Root      string
	Places    []string
	Dir       string
	OpenFiles int
}

// wrap makes cmd start by way of Self, which confines itself and then becomes
// what cmd was. What it answers is to be called once cmd was started.
func (c *Confinement) wrap(cmd *exec.Cmd) (started func(), err error) {
	o, err := json.Marshal(order{c.UID, c.GID, c.Root, c.Places, cmd.Dir, c.OpenFiles})
	if err != nil {
		return nil, fmt.Errorf("confining the payload: %w", err)
	}
	cmd.Args = append([]string{confineName, string(o)}, cmd.Args...)
	// Its root may have no such directory, and this one may not have its program.
	cmd.Path, cmd.Dir, cmd.Err = c.Self, "/", nil
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWNS,
		Setsid:     true,
	}
	if c.Alone {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	if c.Group == "" {
		return func() {}, nil
	}
	group, err := os.Open(c.Group)
	if err != nil {
		return nil, fmt.Errorf("opening the payload's control group: %w", err)
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	return func() { group.Close() }, nil
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
	if len(args) < 2 {
		return fmt.Errorf("%d arguments, want an order and a command", len(args))
	}
	var o order
	if err := strictjson.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("reading the order: %w", err)
	}
	// Capabilities, no_new_privs and the filter are a thread's; execve makes
	// this one the process.
	runtime.LockOSThread()
	if err := o.limit(); err != nil {
		return err
	}
	if err := o.enterRoot(); err != nil {
		return err
	}
	if err := dropBoundingSet(); err != nil {
		return err
	}
	if err := becomeUser(o.UID, o.GID); err != nil {
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
	return fmt.Errorf("starting %s: %w", args[1], unix.Exec(args[1], args[1:], os.Environ()))
}

// limit bounds the open files. Go's runtime raised its own bound and would raise
// it back for a child of its making, which this is not.
func (o *order) limit() error {
	if o.OpenFiles == 0 {
		return nil
	}
	n := uint64(o.OpenFiles)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}); err != nil {
		return fmt.Errorf("bounding open files: %w", err)
	}
	return nil
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
