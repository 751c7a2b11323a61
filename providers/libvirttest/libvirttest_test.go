package libvirttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A host's daemon sees its own files and processes, and the system's are as they were.
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
	defer h.Stop() //nolint:errcheck // another test's
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
}

// TestStoppedIsGone wants nothing of a host to run once Stop has returned, so that its
// directory can be removed and another start there.
func TestStoppedIsGone(t *testing.T) {
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("starts libvirtd: set SHED_VM_TESTS=1")
	}
	// Sockets have short paths; a test's own directory has a long one.
	dir, err := os.MkdirTemp("", "shv-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for range 2 {
		h, err := Start(t.Context(), filepath.Join(dir, "h"))
		if err != nil {
			t.Fatal(err)
		}
		if of := processesIn(t, filepath.Base(dir)); len(of) < 2 {
			t.Errorf("while it runs its processes are %v", of)
		}
		for range 2 {
			if err := h.Stop(); err != nil {
				t.Error(err)
			}
		}
		if of := processesIn(t, filepath.Base(dir)); len(of) != 0 {
			t.Errorf("once it is stopped its processes are %v", of)
		}
		if err := os.RemoveAll(h.Dir); err != nil {
			t.Error(err)
		}
	}
}

// processesIn are those that have something of a directory mounted, by its name: its
// path from the root of its file system is another than from the host's.
func processesIn(t *testing.T, name string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, mounts := range all {
		// Those that end meanwhile cannot be read.
		if b, err := os.ReadFile(mounts); err == nil && strings.Contains(string(b), "/"+name+"/") {
			found = append(found, mounts)
		}
	}
	return found
}
