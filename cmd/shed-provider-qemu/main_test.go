package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin"
	"github.com/toolshed-cloud/shed/providers/qemu"
)

// This test binary is also the plugin, and a host that can be killed.
const (
	cookieEnv = "SHED_PROVIDER_PLUGIN"
	siteEnv   = "SHED_TEST_SITE"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(cookieEnv) != "":
		main()
	case os.Getenv(siteEnv) != "":
		beHost(os.Getenv(siteEnv))
	default:
		os.Exit(m.Run())
	}
}

func TestByHandItSaysWhatItIs(t *testing.T) {
	program := filepath.Join(t.TempDir(), "shed-provider-qemu")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(program).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "plugin") {
		t.Errorf("it said %q and ended with %v", out, err)
	}
}

const (
	installation = providers.InstallationID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	machine      = providers.MachineID("bbbbbbbbbbbbbbbbbbbbbbbbbb")
)

// site is where one test's provider lives; a host that is another process
// reads it from its environment.
type site struct {
	State    string
	Runtime  string
	Settings json.RawMessage
	Image    providers.Image
}

func newSite(t *testing.T) site {
	t.Helper()
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("starts QEMU: set SHED_VM_TESTS=1")
	}
	runtime, err := os.MkdirTemp("", "shq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runtime) })
	state := t.TempDir()
	settings, err := json.Marshal(map[string]any{
		"state_dir": state, "runtime_dir": runtime, "accel": "tcg", "memory_bytes": 256 << 20, "vcpus": 1, "grace": "10ms",
	})
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, 1<<20)
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	s := site{
		State:    state,
		Runtime:  runtime,
		Settings: settings,
		Image:    providers.Image{Release: attest.ReleaseDigest{1}, Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))},
	}
	t.Cleanup(func() { s.clean(t) })
	return s
}

// clean deletes the machine, and checks that nothing is left, without the
// plugin: whatever became of it.
func (s site) clean(t *testing.T) {
	p := qemu.New(qemu.Options{Version: "test"})
	ctx := context.WithoutCancel(t.Context())
	if err := p.Configure(ctx, s.Settings); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
	if err := p.Delete(ctx, machine, false); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
	page, err := p.List(ctx, installation, "")
	if err != nil || len(page.Resources) != 0 {
		t.Errorf("after cleaning up: %+v, %v", page.Resources, err)
	}
	if left := s.processes(t); len(left) != 0 {
		t.Errorf("after cleaning up, there run %q", left)
	}
	if err := p.Close(); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
}

// open starts this binary as the plugin and configures it.
func (s site) open(ctx context.Context, log *zap.Logger) (*plugin.Supervisor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := plugin.Open(ctx, plugin.Options{
		Name: qemu.Name, Path: self, RuntimeDir: s.Runtime, Backoff: time.Millisecond, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return p, p.Configure(ctx, s.Settings)
}

func (s site) create(ctx context.Context, p providers.Provider) error {
	if err := p.EnsureImage(ctx, s.Image, nil); err != nil {
		return err
	}
	_, err := p.Create(ctx, providers.CreateRequest{
		Installation: installation, Machine: machine,
		Spec: providers.Spec{Release: s.Image.Release, DataBytes: 32 << 20, Config: []byte("config")},
	})
	return err
}

func (s site) start(t *testing.T) *plugin.Supervisor {
	t.Helper()
	p, err := s.open(t.Context(), zaptest.NewLogger(t))
	if p != nil {
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// await asks until the machine is on. A plugin that is being started again is
// waited for.
func await(ctx context.Context, p providers.Provider) (providers.Machine, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		m, err := p.Get(ctx, machine)
		if err != nil && providers.CodeOf(err) != providers.CodeUnavailable {
			return m, err
		}
		if err == nil && m.Power == providers.PowerOn {
			return m, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return m, ctx.Err()
		}
	}
}

func running(t *testing.T, p providers.Provider) (ids []string) {
	t.Helper()
	m, err := await(t.Context(), p)
	if err != nil {
		t.Fatalf("%v: machine is %s: %s", err, m.Power, m.Reason)
	}
	for _, r := range m.Resources {
		if r.Kind == providers.ResourceProcess {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) != 2 {
		t.Errorf("processes %v, want two", ids)
	}
	return ids
}

func TestKilledPluginLeavesTheMachine(t *testing.T) {
	s := newSite(t)
	p := s.start(t)
	if err := s.create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	before := running(t, p)
	first := p.Pid()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The first answer may still be the dead plugin's last.
	after := running(t, p)
	if !slices.Equal(after, before) {
		t.Errorf("processes %v, were %v", after, before)
	}
	page, err := p.List(t.Context(), installation, "")
	if err != nil {
		t.Fatal(err)
	}
	machines := 0
	for _, r := range page.Resources {
		if r.Kind == providers.ResourceMachine {
			machines++
		}
	}
	if machines != 1 || p.Pid() == first {
		t.Errorf("%d machines with plugin %d, was %d", machines, p.Pid(), first)
	}
}

func TestPluginKilledWhileCreatingMakesOneMachine(t *testing.T) {
	// The moments fall before, into and after the making of the TPM.
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 80 * time.Millisecond, 300 * time.Millisecond, 700 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			s := newSite(t)
			p := s.start(t)
			if err := s.create(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			<-time.After(after)
			if err := syscall.Kill(p.Pid(), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			want := running(t, p)
			if got := s.processes(t); len(got) != len(want) {
				t.Errorf("processes %q, want %v", got, want)
			}
		})
	}
}

// processes are the command lines that speak of the site's state, whatever the
// provider says.
func (s site) processes(t *testing.T) (found []string) {
	t.Helper()
	cmdlines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range cmdlines {
		// A process may end while it is looked at.
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), s.State) {
			found = append(found, string(b))
		}
	}
	return found
}

// beHost starts a machine, says so, and waits to be killed.
func beHost(encoded string) {
	var s site
	if err := json.Unmarshal([]byte(encoded), &s); err != nil {
		os.Exit(2)
	}
	ctx := context.Background()
	p, err := s.open(ctx, zap.NewNop())
	if err != nil {
		os.Exit(3)
	}
	if err := s.create(ctx, p); err != nil {
		os.Exit(4)
	}
	if _, err := await(ctx, p); err != nil {
		os.Exit(5)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(p.Pid()) + "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestKilledHostLeavesTheMachine(t *testing.T) {
	s := newSite(t)
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self)
	host.Env = []string{siteEnv + "=" + string(encoded)}
	stdin, err := host.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = bufio.NewReader(stdout).ReadString('\n')
	if killErr := host.Process.Kill(); err != nil || killErr != nil {
		t.Fatal(err, killErr)
	}
	// It was killed: what Wait says of that is no news.
	_ = host.Wait()

	// The state directory's lock is the old plugin's until it is gone, so that
	// the next one runs shows that it is.
	started := time.Now()
	p := s.start(t)
	if waited := time.Since(started); waited > 5*time.Second {
		t.Errorf("the old plugin took %s to go", waited)
	}
	m, err := p.Get(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	if m.Power != providers.PowerOn {
		t.Errorf("machine is %s: %s", m.Power, m.Reason)
	}
}
