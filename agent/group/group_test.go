package group_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/agent/group"
	"github.com/toolshed-cloud/shed/attest/payload"
)

// files stands for the kernel's, which has a limit's file where it knows the limit.
func files(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "payload"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestMake(t *testing.T) {
	all := []string{"cgroup.subtree_control", "payload/pids.max", "payload/memory.max"}
	for _, c := range []struct {
		limits payload.Limits
		want   []string
	}{
		{payload.Limits{Processes: 40}, []string{"+pids", "40", ""}},
		{payload.Limits{Processes: 50, MemoryBytes: 64 << 20}, []string{"+pids +memory", "50", "67108864"}},
	} {
		root := files(t, all...)
		dir, err := group.Make(root, c.limits)
		if err != nil || dir != filepath.Join(root, "payload") {
			t.Fatalf("%s, error %v", dir, err)
		}
		for i, name := range all {
			if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != c.want[i] {
				t.Errorf("%s is %q, error %v", name, b, err)
			}
		}
	}
	// A kernel without the limit does not run the payload without it.
	if _, err := group.Make(files(t, all[:2]...), payload.Limits{Processes: 40, MemoryBytes: 64 << 20}); err == nil {
		t.Error("a limit that the kernel does not know was set")
	}
	if _, err := group.Make(files(t, all[0]), payload.Limits{Processes: 40}); err == nil {
		t.Error("a limit that the kernel does not know was set")
	}
}
