// Package libvirttest starts libvirt daemons that stand for hosts in tests.
//
// Invariants: a daemon sees its own /etc/libvirt, /var/lib/libvirt and /run, so
// that neither the system's nor another test's is touched; whatever it starts
// lives in its process namespace and dies with it, also when the test is
// killed; and its TPMs are vouched for by a CA of its own.
package libvirttest

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Host is a running daemon.
type Host struct {
	// URI is where it is reached.
	URI string
	// Pool is the name of its storage pool, a directory.
	Pool string
	// Dir holds all that it keeps.
	Dir string

	cmd *exec.Cmd
	log *os.File
}

// PoolDir is where the volumes of the pool are.
func (h *Host) PoolDir() string { return filepath.Join(h.Dir, "lib", "images") }

// Root is the certificate of the CA of its TPMs.
func (h *Host) Root() string { return filepath.Join(h.Dir, "ca", "issuercert.pem") }

const poolName = "shed"

// begin is run by the first process of the daemon's namespaces, which stays to
// reap what daemons leave behind them.
//
//go:embed begin.sh
var begin string

// patience is how long a daemon may take to answer.
const patience = 30 * time.Second

// Start starts a daemon in dir, whose path must be short, and returns once it
// answers. It runs until Stop, whatever becomes of ctx.
func Start(ctx context.Context, dir string) (_ *Host, err error) {
	h := &Host{Dir: dir, Pool: poolName}
	if err := h.lay(); err != nil {
		return nil, fmt.Errorf("laying out a host: %w", err)
	}
	socket := filepath.Join(dir, "run", "libvirt", "libvirt-sock")
	h.URI = "qemu+unix:///system?socket=" + socket
	if h.log, err = os.Create(filepath.Join(dir, "libvirtd.log")); err != nil {
		return nil, err
	}
	h.cmd = exec.Command("sh", "-c", begin, "sh", dir)
	h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		// Of an unshared mount namespace Go makes the mounts private, of a cloned one not.
		Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS,
	}
	if err := h.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting libvirtd: %w", err), h.log.Close())
	}
	if err := answers(ctx, socket); err != nil {
		said, _ := os.ReadFile(h.log.Name())
		return nil, errors.Join(fmt.Errorf("waiting for libvirtd: %w: %s", err, said), h.Stop())
	}
	return h, nil
}

// answers waits until somebody listens on a socket.
func answers(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}

// Stop ends the daemon and all that it has started, and returns when they are gone:
// the first process of a process namespace ends after all others of it
// (pid_namespaces(7)). A second one is fine.
func (h *Host) Stop() error {
	err := h.cmd.Process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	// That it was killed is no news.
	_ = h.cmd.Wait()
	if closed := h.log.Close(); !errors.Is(closed, os.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return err
}

// The files of a host, as it sees them. What differs from Debian's: there is no
// AppArmor, no control group and no virtlogd to be asked. QEMU and swtpm run as
// the users that they run as on a real host.
const (
	daemonConf = `unix_sock_group = "root"
auth_unix_rw = "none"
auth_unix_ro = "none"
`
	qemuConf = `security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
`
	poolXML = `<pool type='dir'><name>` + poolName + `</name><target><path>/var/lib/libvirt/images</path></target></pool>
`
	setupConf = `create_certs_tool = /usr/bin/swtpm_localca
create_certs_tool_config = /var/lib/swtpm-localca/localca.conf
create_certs_tool_options = /var/lib/swtpm-localca/localca.options
active_pcr_banks = sha256
`
	caConf = `statedir = /var/lib/swtpm-localca
signingkey = /var/lib/swtpm-localca/signkey.pem
issuercert = /var/lib/swtpm-localca/issuercert.pem
certserial = /var/lib/swtpm-localca/certserial
`
	// libvirt wants a platform certificate too, which needs these.
	caOptions = `--platform-manufacturer Shed
--platform-version 1
--platform-model libvirt
`
)

func (h *Host) lay() error {
	ca := filepath.Join(h.Dir, "ca")
	for _, dir := range []string{"etc/qemu", "etc/storage/autostart", "lib/images", "lib/tmp", "cache", "log", "swtpm-log", "run", "ca"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, dir), 0o755); err != nil {
			return err
		}
	}
	for name, content := range map[string]string{
		"etc/libvirtd.conf":                daemonConf,
		"etc/qemu.conf":                    qemuConf,
		"etc/storage/" + poolName + ".xml": poolXML,
		"swtpm_setup.conf":                 setupConf,
		"ca/localca.conf":                  caConf,
		"ca/localca.options":               caOptions,
	} {
		if err := os.WriteFile(filepath.Join(h.Dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if err := makeCA(ca); err != nil {
		return fmt.Errorf("making the CA of the TPMs: %w", err)
	}
	// As `virsh pool-autostart` does.
	return os.Symlink("/etc/libvirt/storage/"+poolName+".xml", filepath.Join(h.Dir, "etc/storage/autostart", poolName+".xml"))
}
