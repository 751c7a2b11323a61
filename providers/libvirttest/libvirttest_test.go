package libvirttest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A host's daemon sees its own files and processes, the system's are as they were, and
// when it was stopped nobody answers for it any more.
func TestHostIsApart(t *testing.T) {
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("starts libvirtd: set SHED_VM_TESTS=1")
	}
	// Sockets have short paths; a test's own directory has a long one.
	dir, err := os.MkdirTemp("", "shv-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is the system's to tidy then
	h, err := Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	root := fmt.Sprintf("/proc/%d/root", h.cmd.Process.Pid)
	if first, err := os.ReadFile(root + "/proc/1/comm"); err != nil || string(first) != "sh\n" {
		t.Errorf("its first process is %q, %v", first, err)
	}
	if conf, err := os.ReadFile(root + "/etc/libvirt/libvirtd.conf"); err != nil || string(conf) != daemonConf {
		t.Errorf("it has the settings %q, %v", conf, err)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), filepath.Base(dir)) {
		t.Errorf("its directories are the system's: %s, %v", mounts, err)
	}
	if err := h.Stop(); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("unix", filepath.Join(dir, "run", "libvirt", "libvirt-sock")); err == nil {
		conn.Close()
		t.Error("it answers after it was stopped")
	}
	if err := h.Stop(); err != nil {
		t.Errorf("stopped again: %v", err)
	}
}
