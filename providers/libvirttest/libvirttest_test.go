package libvirttest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/providers/libvirttest"
)

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
		h, err := libvirttest.Start(t.Context(), filepath.Join(dir, "h"))
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
