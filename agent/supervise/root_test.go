package supervise_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/supervise"
)

// rootedPayload is a payload with a root of its own, whose places are those of a
// machine in miniature: everything below a directory of the test's.
func rootedPayload(t *testing.T) (p supervise.Payload, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make a root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = os.MkdirTemp("", "rooted"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	root, data, run, tmp := filepath.Join(dir, "root"), filepath.Join(dir, "data"), filepath.Join(dir, "run"), filepath.Join(dir, "tmp")
	for _, d := range []string{"bin", "proc", "dev", data, run, tmp} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
		if filepath.IsAbs(d) {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(root, "bin/server"), "./testdata/rooted")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, err := range []error{
		os.Chmod(dir, 0o755), os.Chown(data, 65534, 65534), os.Chown(tmp, 65534, 65534),
		os.WriteFile(filepath.Join(dir, "machine"), nil, 0o644), os.WriteFile(filepath.Join(data, "program"), []byte("#!/bin/server\n"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return supervise.Payload{
		Command: []string{"/bin/server", "--first", "second word"}, Socket: filepath.Join(run, "s"), Data: data, Health: "/health", Log: zap.NewNop(),
		Confinement: &supervise.Confinement{UID: 65534, GID: 65534, Self: self, Root: root, Places: []string{data, run, tmp}, Alone: true, OpenFiles: 99},
	}, dir
}

func found(t *testing.T, s *supervise.Supervisor) map[string]string {
	t.Helper()
	until(t, s, "healthy", s.Healthy)
	var said map[string]string
	if err := json.Unmarshal([]byte(get(t, s, "/found")), &said); err != nil {
		t.Fatal(err)
	}
	return said
}

// A payload's root is what was built for it, which it cannot write, with its
// own devices and processes, and the places that the machine shares.
func TestRoot(t *testing.T) {
	p, dir := rootedPayload(t)
	// What is mounted here shows wherever this is shared with.
	if err := errors.Join(unix.Mount(dir, dir, "", unix.MS_BIND, ""), unix.Mount("", dir, "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := supervise.New(p)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	said := found(t, s)
	for what, want := range map[string]string{
		"arguments": "/bin/server --first second word", "root": "bin dev proc tmp", "dev": "fd full null random shm stderr stdin stdout urandom zero",
		"devices": " full null random urandom zero", "directory": p.Data, "files": "99", "processes": "/proc/1",
		"write /": "open /note: read-only file system", "write /bin": "open /bin/note: read-only file system", "write /dev": "open /dev/note: permission denied",
		"write /dev/shm": "", "execute": "permission denied",
		"machine": "open /../../machine: no such file or directory",
	} {
		if said[what] != want {
			t.Errorf("%s: %q, want %q", what, said[what], want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "root/dev/null")); err == nil {
		t.Errorf("the machine sees the payload's devices: %v", info)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir+"/") {
			t.Errorf("the machine sees the payload's mount %s", at)
		}
	}
}

// One that answers on a port is reached there, and starts in its control group.
func TestPortAndGroup(t *testing.T) {
	p, _ := rootedPayload(t)
	mounted := t.TempDir()
	if err := unix.Mount("none", mounted, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(mounted, 0) })
	group := filepath.Join(mounted, "shed-test-"+filepath.Base(filepath.Dir(p.Data)))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	p.Socket, p.Port, p.Confinement.Alone, p.Confinement.Group = "", freePort(t), false, group
	s := supervise.New(p)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if said := found(t, s); !strings.Contains(said["group"], "/"+filepath.Base(group)+"\n") {
		t.Errorf("it is in the group %q", said["group"])
	}
	s.Stop()
	p.Confinement.Group = filepath.Join(mounted, "missing")
	s = supervise.New(p)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	until(t, s, "refused", func() bool { return strings.Contains(string(s.Output()), "control group") })
	if s.Running() {
		t.Error("it runs outside its group")
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
