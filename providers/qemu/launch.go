package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/qmp"
)

const (
	// greetingPatience is how long QEMU may take to put the machine together.
	greetingPatience = 30 * time.Second
	// portAttempts is how many ports are tried for a machine that never ran.
	portAttempts = 8
)

// Descriptors as the started programs see them: the first that Go passes on.
const (
	firstExtra  = 3
	secondExtra = 4
	thirdExtra  = 5
	fourthExtra = 6
)

// errPortTaken says that something else listens on a machine's port.
var errPortTaken = errors.New("port is taken")

// launch starts the machine's processes and returns once QEMU has put the
// machine together.
func (p *Provider) launch(ctx context.Context, c *config, m *machine) error {
	if err := m.endTPM(ctx); err != nil {
		return fmt.Errorf("ending the TPM of the last run: %w", err)
	}
	for attempt := 1; ; attempt++ {
		err := p.launchOnce(ctx, c, m)
		if !errors.Is(err, errPortTaken) || attempt == portAttempts {
			return err
		}
		moved, moveErr := p.movePort(c, m)
		if moveErr != nil {
			return errors.Join(err, moveErr)
		}
		if !moved {
			return err
		}
	}
}

func (p *Provider) launchOnce(ctx context.Context, c *config, m *machine) error {
	m.mu.Lock()
	r := m.record
	m.mu.Unlock()
	if err := r.portFree(); err != nil {
		return err
	}
	ended, events, err := c.startProcesses(m, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, greetingPatience)
	defer cancel()
	monitor, err := qmp.Dial(ctx, c.socket(r.Machine))
	if err == nil {
		m.mu.Lock()
		p.serveLeases(c, m)
		p.watchEnd(c, m, events)
		m.mu.Unlock()
		return monitor.Close()
	}
	defer events.Close()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("waiting for QEMU: %w", err)
	}
	if err := r.portFree(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.New(m.exitReason(c))
}

// startProcesses starts swtpm and QEMU and writes down which they are.
func (c *config) startProcesses(m *machine, r record) (ended <-chan struct{}, events net.Conn, err error) {
	ends, err := c.join(r)
	if err != nil {
		return nil, nil, err
	}
	defer ends.close()
	defer func() {
		if err != nil {
			ends.events.Close()
		}
	}()
	firmware, err := c.firmware(r.Release)
	if err != nil {
		return nil, nil, err
	}
	dir := c.machineDir(r.Machine)
	if err := boundLog(filepath.Join(dir, consoleFile)); err != nil {
		return nil, nil, err
	}
	group, err := c.openGroup(r)
	if err != nil {
		return nil, nil, err
	}
	if group != nil {
		defer group.Close()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	swtpm, _, err := m.start(group, exec.Command(c.tools.swtpm, c.swtpmArgs(r)...), filepath.Join(dir, swtpmLogFile), ends.swtpm)
	if err != nil {
		return nil, nil, fmt.Errorf("starting swtpm: %w", err)
	}
	qemu, gone, err := m.start(group, exec.Command(c.tools.qemuFor(firmware.model), c.qemuArgs(r, firmware)...), filepath.Join(dir, qemuLogFile), ends.qemu...)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("starting QEMU: %w", err), swtpm.Signal(unix.SIGKILL), swtpm.Close())
	}
	m.qemu, m.swtpm, m.exit, m.restarting, m.unheard = qemu, swtpm, nil, false, false
	m.record.QEMU, m.record.SWTPM = qemu.ID, swtpm.ID
	if err := m.record.write(dir); err != nil {
		return nil, nil, fmt.Errorf("writing the machine record: %w", err)
	}
	return gone, ends.events, nil
}

// start runs a program in a session of its own, so that neither the plugin's
// end nor a terminal's signals reach it. The caller holds m.mu.
func (m *machine) start(group *os.File, cmd *exec.Cmd, logPath string, extra ...*os.File) (*proc.Process, <-chan struct{}, error) {
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer logFile.Close()
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = extra
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = process(group)
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	// It is our child and not waited for yet: its pid cannot be another's.
	id, err := proc.Identify(cmd.Process.Pid)
	var p *proc.Process
	if err == nil {
		p, err = proc.Open(id)
	}
	if err != nil {
		return nil, nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := cmd.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.qemu == p {
			m.exit = err
		}
	}()
	return p, ended, nil
}

func (c *config) swtpmArgs(r record) []string {
	return []string{
		"socket", "--tpm2",
		"--tpmstate", "dir=" + filepath.Join(c.machineDir(r.Machine), tpmDir),
		"--ctrl", "type=unixio,clientfd=" + strconv.Itoa(firstExtra),
		// QEMU's end is its own: a TPM never waits for another machine.
		"--terminate",
		"--log", fmt.Sprintf("file=%s,level=1,prefix=%s", filepath.Join(c.machineDir(r.Machine), swtpmLogFile), r.tag()),
	}
}

// qemuArgs puts behind the parts of the board what is this machine's own.
func (c *config) qemuArgs(r record, f firmware) []string {
	dir := c.machineDir(r.Machine)
	in := func(name string) string { return filepath.Join(dir, name) }
	args := []string{
		"-name", r.tag(),
		"-pidfile", in(pidFile),
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + f.code,
		"-drive", "if=pflash,unit=1,format=raw,file=" + in(variablesFile),
		"-drive", "if=none,format=qcow2,discard=unmap,file=" + in(systemFile) + ",id=" + board.SystemDrive,
		"-drive", "if=none,format=raw,discard=unmap,file=" + in(dataFile) + ",id=" + board.DataDrive,
		"-drive", "if=none,format=raw,readonly=on,file=" + in(configFile) + ",id=" + board.ConfigDrive,
		"-netdev", r.netdev(),
		"-object", "rng-random,filename=/dev/urandom,id=" + board.Randomness,
		"-chardev", fmt.Sprintf("socket,id=tpm,fd=%d", firstExtra),
		"-tpmdev", "emulator,chardev=tpm,id=" + board.TPM,
		"-chardev", "file,append=on,path=" + in(consoleFile) + ",id=" + board.Console,
		"-chardev", fmt.Sprintf("socket,id=monitor,server=on,wait=off,fd=%d", secondExtra),
		"-mon", "chardev=monitor,mode=control",
		"-chardev", fmt.Sprintf("socket,id=events,fd=%d", thirdExtra),
		"-mon", "chardev=events,mode=control",
	}
	if c.Accel.startsAnew(f.model) {
		args = append(args, "-action", "reboot=shutdown")
	}
	return slices.Concat(args, f.model.Args(r.shape()), c.Accel.args(f.model))
}

// args is how QEMU is told. A guest of another architecture than the host's is
// emulated.
func (a accelerator) args(m board.Model) []string {
	if a.startsAnew(m) {
		return m.Emulated()
	}
	return m.Virtualised()
}

// startsAnew says that a guest's restart is QEMU's: one that emulates the processor
// throws what it has translated of a page away when that is written, a write at a
// time, and so the next boot takes up to twice as long.
func (a accelerator) startsAnew(m board.Model) bool {
	return a != accelKVM || m.IsARM64() != (runtime.GOARCH == board.ARM64)
}

// endTPM waits for the TPM of the last run, which ends with its QEMU.
func (m *machine) endTPM(ctx context.Context) error {
	m.mu.Lock()
	swtpm := m.swtpm
	m.mu.Unlock()
	if swtpm == nil || !swtpm.Alive() {
		return nil
	}
	return swtpm.End(ctx, stopPatience)
}
