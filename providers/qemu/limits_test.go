package qemu_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu"
)

// groups makes a directory for control groups, wherever this host has a cgroup2
// file system. What limits do there is shown by package cgroup, in a machine of
// its own.
func groups(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[2] != "cgroup2" {
			continue
		}
		dir := filepath.Join(fields[1], fmt.Sprintf("shed-test-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("this host's cgroup2 file system cannot be written to: %v", err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Skip("this host has no cgroup2 file system")
	return ""
}

// with changes a site's settings.
func (s *site) with(t *testing.T, name string, value any) {
	t.Helper()
	var settings map[string]any
	if err := json.Unmarshal(s.settings, &settings); err != nil {
		t.Fatal(err)
	}
	settings[name] = value
	var err error
	if s.settings, err = json.Marshal(settings); err != nil {
		t.Fatal(err)
	}
}

func TestAMachinesProcessesAreInItsGroup(t *testing.T) {
	needVMs(t)
	dir := groups(t)
	s := newSite(t)
	s.with(t, "limits", map[string]any{"cgroup": dir})
	p := s.open(t)
	m := s.start(t, p)
	group := filepath.Join(dir, "machine-"+string(machine))
	b, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
	if err != nil {
		t.Fatal(err)
	}
	got, want := strings.Fields(string(b)), []string{}
	for _, process := range processes(m) {
		want = append(want, strings.TrimPrefix(process, "pid/"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(want) != 2 {
		t.Errorf("processes %v are in the group, the machine's are %v", got, want)
	}
	if err := p.Delete(t.Context(), machine, false); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(group); !os.IsNotExist(err) {
		t.Errorf("the group is left: %v", err)
	}
}

func TestLimitsThatCannotBeKeptAreRefused(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	s.with(t, "limits", map[string]any{"cgroup": t.TempDir(), "pids": 64})
	err := qemu.New(qemu.Options{Version: "test"}).Configure(t.Context(), s.settings)
	if providers.CodeOf(err) != providers.CodeInvalid || !strings.Contains(fmt.Sprint(err), "cgroup2") || providers.HintOf(err) == "" {
		t.Errorf("Configure answered %v", err)
	}
}
