package qemu

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/providers"
)

// ends are those of what joins a machine's processes with each other and with us.
type ends struct {
	swtpm *os.File
	// qemu are QEMU's, in the order of their descriptors.
	qemu []*os.File
	// events is ours, which close leaves open.
	events net.Conn
}

// close closes what the processes have got, or nobody will.
func (e *ends) close() {
	for _, f := range e.qemu {
		f.Close()
	}
	if e.swtpm != nil {
		e.swtpm.Close()
	}
}

// join makes them. The TPM is joined by a pair of sockets that nothing else can reach:
// when one of the two processes dies, so does the other's use.
func (c *config) join(r record) (_ *ends, err error) {
	e := new(ends)
	defer func() {
		if err == nil {
			return
		}
		e.close()
		if e.events != nil {
			e.events.Close()
		}
	}()
	swtpm, qemu, err := pair("tpm")
	if err != nil {
		return nil, err
	}
	e.swtpm, e.qemu = swtpm, append(e.qemu, qemu)
	monitor, err := c.listenMonitor(r.Machine)
	if err != nil {
		return nil, err
	}
	e.qemu = append(e.qemu, monitor)
	ours, theirs, err := pair("events")
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	e.qemu = append(e.qemu, theirs)
	if e.events, err = net.FileConn(ours); err != nil {
		return nil, fmt.Errorf("hearing QEMU: %w", err)
	}
	card, err := c.openCard(r)
	if card != nil {
		e.qemu = append(e.qemu, card)
	}
	return e, err
}

// pair joins QEMU with something of ours.
func pair(name string) (one, other *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("joining QEMU and its %s: %w", name, err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// listenMonitor makes the monitor's socket before QEMU runs, so that nobody
// has to wait for it to appear.
func (c *config) listenMonitor(id providers.MachineID) (*os.File, error) {
	path := c.socket(id)
	if err := removeFile(path); err != nil {
		return nil, fmt.Errorf("removing an old socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("making the monitor's socket: %w", err)
	}
	defer listener.Close()
	listener.SetUnlinkOnClose(false)
	f, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("making the monitor's socket: %w", err)
	}
	return f, nil
}
