package cgroup_test

import (
	"bytes"
	"context"
	"debug/pe"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/cgroup"
)

func TestLimitsAreChecked(t *testing.T) {
	if err := (cgroup.Limits{CPUWeight: 100, IOWeight: 10000}).Check(); err != nil {
		t.Error(err)
	}
	for name, l := range map[string]cgroup.Limits{
		"cpu_weight": {CPUWeight: 10001}, "io_weight": {IOWeight: -1}, "cpu_percent": {CPUPercent: -1}, "memory": {MemoryBytes: -1}, "pids": {Pids: -1},
	} {
		if err := l.Check(); !errors.Is(err, cgroup.ErrGroup) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADirectoryThatIsNoGroupIsRefused(t *testing.T) {
	if err := cgroup.Parent(t.TempDir()).Ready(cgroup.Limits{Pids: 1}); !errors.Is(err, cgroup.ErrGroup) {
		t.Error(err)
	}
	if err := cgroup.Parent(filepath.Join(t.TempDir(), "absent")).Ready(cgroup.Limits{Pids: 1}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A group that is there gets the limits that are wanted, each in its file, and no
// other; a limit that has no file is an error. The files are the kernel's in
// TestVMLimitsBite.
func TestLimitsAreWritten(t *testing.T) {
	all := []string{"cpu.weight", "cpu.max", "io.weight", "memory.oom.group", "memory.max", "pids.max"}
	for name, c := range map[string]struct {
		limits cgroup.Limits
		want   []string
	}{
		"none":   {cgroup.Limits{}, []string{"", "", "", "", "", ""}},
		"memory": {cgroup.Limits{MemoryBytes: 4096}, []string{"", "", "", "1", "4096", ""}},
		"all": {
			cgroup.Limits{CPUWeight: 50, CPUPercent: 150, IOWeight: 20, MemoryBytes: 4096, Pids: 32},
			[]string{"50", "150000 100000", "20", "1", "4096", "32"},
		},
	} {
		parent := t.TempDir()
		if err := os.Mkdir(filepath.Join(parent, "g"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range all {
			if err := os.WriteFile(filepath.Join(parent, "g", file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f, err := cgroup.Parent(parent).Make("g", c.limits)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		for i, file := range all {
			if b, err := os.ReadFile(filepath.Join(parent, "g", file)); err != nil || string(b) != c.want[i] {
				t.Errorf("%s: %s holds %q, %v", name, file, b, err)
			}
		}
	}
	if f, err := cgroup.Parent(t.TempDir()).Make("g", cgroup.Limits{Pids: 1}); !errors.Is(err, cgroup.ErrGroup) || f != nil {
		t.Errorf("without its file: %v", err)
	}
}

func TestRemoving(t *testing.T) {
	parent := t.TempDir()
	if err := os.MkdirAll(filepath.Join(parent, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"empty", "empty", "absent"} {
		if err := cgroup.Parent(parent).Remove(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.WriteFile(filepath.Join(parent, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := cgroup.Parent(parent).Remove(t.Context(), "file"); !errors.Is(err, cgroup.ErrGroup) {
		t.Errorf("no group: %v", err)
	}
}

// patience is several times what software emulation takes.
const patience = 5 * time.Minute

// Not every host that tests run on has version 2, so the limits are shown in a
// virtual machine of ours.
func TestVMLimitsBite(t *testing.T) {
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("starts QEMU: set SHED_VM_TESTS=1")
	}
	console := boot(t)
	for _, want := range []string{
		"LIMIT cpu.weight 50\n", "LIMIT cpu.max 150000 100000\n", "LIMIT memory.max 67108864\n", "LIMIT pids.max 32\n",
		"NOT2 control group: /proc is not in a cgroup2 file system\n",
		"ENDED eat signal: killed\n", "REFUSED true true\n", "ENDED many <nil>\n", "REMOVED true <nil>\n", "FINISHED <nil>\n",
	} {
		if !strings.Contains(console, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(console, "ATE ") || t.Failed() {
		t.Errorf("the machine said\n%s", console)
	}
}

// boot runs the guest in the agent's place of an image that is built as any
// other, and answers what it printed.
func boot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "guest")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the guest: %v\n%s", err, out)
	}
	cache, err := filepath.Abs("../../../../.cache/image")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := imagebuild.Build(t.Context(), imagebuild.Options{
		Output: filepath.Join(dir, "image"), Version: "1.0.0", Epoch: 1, Agent: program, Toolshed: program, Cache: cache,
	}); err != nil {
		t.Fatal(err)
	}
	image, err := pe.Open(filepath.Join(dir, "image", imagebuild.UKIName))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	for _, section := range []string{".linux", ".initrd"} {
		s := image.Section(section)
		data, err := s.Data()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, section), data[:s.VirtualSize], 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// One processor: cpu.max has the kernel rewrite its own code (static keys), which
	// an emulated second one was seen to run while it was half written.
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "1", "-m", "512",
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio", "-nic", "none",
		"-kernel", filepath.Join(dir, ".linux"), "-initrd", filepath.Join(dir, ".initrd"), "-append", "console=ttyS0 quiet panic=-1")
	var console, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("qemu: %v\n%s\n%s", err, complaint.String(), console.String())
	}
	return strings.ReplaceAll(console.String(), "\r", "")
}
