package plugin_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/memory"
	"github.com/toolshed-cloud/shed/providers/memory/remote"
	"github.com/toolshed-cloud/shed/providers/plugin"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// This test binary is also the plugin, and a host that can be killed.
const (
	roleEnv   = "SHED_TEST_ROLE"
	signalEnv = "SHED_TEST_SIGNAL"

	rolePlugin = "plugin"
	roleRemote = "remote"
	roleHost   = "host"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case rolePlugin:
		if err := plugin.Serve(spy{memory.New(time.Now)}); err != nil {
			os.Exit(1)
		}
	case roleRemote:
		p, err := remote.New()
		if err != nil || plugin.Serve(p) != nil {
			os.Exit(1)
		}
	case roleHost:
		beHost()
	default:
		os.Exit(m.Run())
	}
}

// spy is a provider that tells what it was started with, and hangs when asked.
type spy struct{ *memory.Provider }

// hang is a machine whose creation never ends.
const hang = providers.MachineID("hang")

func (s spy) Info(ctx context.Context) (providers.Info, error) {
	info, err := s.Provider.Info(ctx)
	info.Notes = os.Environ()
	return info, err
}

func (s spy) Create(ctx context.Context, req providers.CreateRequest) (providers.Machine, error) {
	if req.Machine != hang {
		return s.Provider.Create(ctx, req)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", os.Getenv(signalEnv))
	if err != nil {
		return providers.Machine{}, err
	}
	defer conn.Close()
	<-ctx.Done()
	return providers.Machine{}, ctx.Err()
}

// options are for this binary as plugin.
func options(t *testing.T) plugin.Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return plugin.Options{
		Name:       memory.Name,
		Path:       self,
		RuntimeDir: t.TempDir(),
		Env:        []string{roleEnv + "=" + rolePlugin},
		Backoff:    time.Millisecond,
		Log:        zaptest.NewLogger(t),
	}
}

func open(t *testing.T, opts plugin.Options) *plugin.Supervisor {
	t.Helper()
	s, err := plugin.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// exited waits until a process that is not our child has ended, and sees to it
// that it has.
func exited(t *testing.T, pid int, within time.Duration) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(within.Milliseconds()))
	if err != nil || n == 0 {
		t.Errorf("process %d is still there after %s (%v)", pid, within, err)
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
}

// The suite sees what an operator's own plugin would be: a process, which is
// killed, in front of a cloud, which misbehaves.
func TestConformance(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		cloud := memory.New(time.Now)
		socket := filepath.Join(t.TempDir(), "cloud")
		opts := options(t)
		opts.Env = []string{roleEnv + "=" + roleRemote}
		serveCloud(t, cloud, socket)
		s := open(t, opts)
		settings := fmt.Appendf(nil, `{"cloud":%q}`, socket)
		if err := s.Configure(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		disk := []byte("not a disk")
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		image := providers.Image{Release: attest.ReleaseDigest{1}, Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
		return providertest.Subject{
			Name:     "memory-plugin",
			Provider: s,
			Settings: settings,
			Rotated:  fmt.Appendf(nil, `{"cloud":%q,"credentials":"others"}`, socket),
			Image:    image,
			Spec:     providers.Spec{Release: image.Release, DataBytes: 1 << 20, Config: []byte("config")},
			Patience: 10 * time.Second,
			Fresh:    func(ctx context.Context) (providers.Provider, error) { return plugin.Open(ctx, opts) },
			Kill:     s.Kill,
			Faults:   cloud,
		}
	})
}

// serveCloud has the cloud at a socket until the test ends.
func serveCloud(t *testing.T, cloud providers.Provider, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- plugin.ServeSocket(ctx, l, cloud) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving the cloud: %v", err)
		}
	})
}

func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("SHED_TEST_SECRET", "not for plugins")
	info, err := open(t, options(t)).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{
		"PATH": true, "TMPDIR": true, roleEnv: true,
		"SHED_PROVIDER_PLUGIN": true, "SHED_PROVIDER_LIFELINE": true,
		"PLUGIN_MIN_PORT": true, "PLUGIN_MAX_PORT": true,
		"PLUGIN_PROTOCOL_VERSIONS": true, "PLUGIN_CLIENT_CERT": true,
	}
	for _, entry := range info.Notes {
		if name, _, _ := strings.Cut(entry, "="); !allowed[name] {
			t.Errorf("the plugin was given %s", name)
		}
	}
}

func TestPluginOfAnotherNameIsRefused(t *testing.T) {
	opts := options(t)
	opts.Name = "other"
	if _, err := plugin.Open(t.Context(), opts); err == nil || !strings.Contains(fmt.Sprint(err), "memory") {
		t.Errorf("got %v", err)
	}
}

func TestKilledPluginIsStartedAndConfiguredAgain(t *testing.T) {
	s := open(t, options(t))
	if err := s.Configure(t.Context(), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	first := s.Pid()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exited(t, first, 10*time.Second)
	// A call may still find the dead process before the host has noticed:
	// that is what CodeUnavailable is for.
	_, err := s.Offerings(t.Context())
	for providers.CodeOf(err) == providers.CodeUnavailable && t.Context().Err() == nil {
		_, err = s.Offerings(t.Context())
	}
	if err != nil {
		t.Errorf("Offerings: %v", err)
	}
	if second := s.Pid(); second == first || second == 0 {
		t.Errorf("plugin has pid %d, had %d", second, first)
	}
}

// signals has the plugin say on the listener that a call of it hangs.
func signals(t *testing.T, opts *plugin.Options) net.Listener {
	t.Helper()
	path := filepath.Join(opts.RuntimeDir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	opts.Env = append(opts.Env, signalEnv+"="+path)
	return listener
}

func TestCreateInFlightMayHaveHappened(t *testing.T) {
	opts := options(t)
	listener := signals(t, &opts)
	s := open(t, opts)
	failed := make(chan error, 1)
	go func() {
		_, err := s.Create(t.Context(), providers.CreateRequest{Machine: hang})
		failed <- err
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := syscall.Kill(s.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; providers.CodeOf(err) != providers.CodeOutcomeUnknown {
		t.Errorf("Create answered %v, want OUTCOME_UNKNOWN", err)
	}
}

func TestGivingUpOnCreateSaysThatItMayHaveHappened(t *testing.T) {
	opts := options(t)
	listener := signals(t, &opts)
	s := open(t, opts)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := listener.Accept(); err == nil {
			defer conn.Close()
		}
		cancel()
	}()
	_, err := s.Create(ctx, providers.CreateRequest{Machine: hang})
	if providers.CodeOf(err) != providers.CodeOutcomeUnknown || !errors.Is(err, context.Canceled) {
		t.Errorf("Create answered %v, want OUTCOME_UNKNOWN of a canceled context", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	opts := options(t)
	s := open(t, opts)
	pid := s.Pid()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	exited(t, pid, 10*time.Second)
	if left, err := os.ReadDir(opts.RuntimeDir); err != nil || len(left) != 0 {
		t.Errorf("left in the runtime directory: %v, %v", left, err)
	}
	if _, err := s.Info(t.Context()); providers.CodeOf(err) != providers.CodeUnavailable {
		t.Errorf("Info after Close answered %v", err)
	}
}

// beHost opens this binary as a plugin, prints its pid, and waits to be
// killed.
func beHost() {
	s, err := plugin.Open(context.Background(), plugin.Options{
		Name: memory.Name, Path: os.Args[0], RuntimeDir: os.Getenv(signalEnv),
		Env: []string{roleEnv + "=" + rolePlugin},
	})
	if err != nil {
		os.Exit(3)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(s.Pid()) + "\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestPluginDiesWithItsHost(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self)
	runtime := t.TempDir()
	host.Env = []string{roleEnv + "=" + roleHost, signalEnv + "=" + runtime}
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
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err, host.Process.Kill(), host.Wait())
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// It was killed: what Wait says of that is no news.
	_ = host.Wait()
	exited(t, pid, 5*time.Second)
	if left, err := os.ReadDir(runtime); err != nil || len(left) != 0 {
		t.Errorf("left in the runtime directory: %v, %v", left, err)
	}
}

func BenchmarkGet(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	s, err := plugin.Open(b.Context(), plugin.Options{
		Name: memory.Name, Path: self, RuntimeDir: b.TempDir(), Env: []string{roleEnv + "=" + rolePlugin},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	}()
	for b.Loop() {
		if _, err := s.Get(b.Context(), "absent"); err == nil {
			b.Fatal("a machine that is not there was found")
		}
	}
}
