package qemu_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/agent/api"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu"
)

// inNamespace has a site's machines be in a namespace of the test's own, which
// has no way out.
func (s *site) inNamespace(t *testing.T, more map[string]any) (name string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("makes a network namespace, which takes root")
	}
	name = fmt.Sprintf("shed-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	for key, value := range more {
		s.with(t, key, value)
	}
	s.with(t, "network", map[string]any{"namespace": name, "range": "10.78.0.0/29", "gateway": "10.78.0.1"})
	return name
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func cards(t *testing.T, namespace string) []string {
	t.Helper()
	var found []string
	for _, name := range strings.Fields(run(t, "ip", "netns", "exec", namespace, "ls", "/sys/class/net")) {
		if strings.HasPrefix(name, "shed") {
			found = append(found, name)
		}
	}
	return found
}

// listen is a control plane's socket, as far as a machine's first packets go.
func listen(t *testing.T, namespace, address string) net.Listener {
	t.Helper()
	made := make(chan net.Listener, 1)
	failed := make(chan error, 1)
	go func() {
		// The thread is the namespace's from here on, and ends.
		runtime.LockOSThread()
		f, err := os.Open("/run/netns/" + namespace)
		if err == nil {
			defer f.Close()
			err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp4", address)
		}
		if err != nil {
			failed <- err
			return
		}
		made <- l
	}()
	select {
	case l := <-made:
		t.Cleanup(func() { l.Close() })
		return l
	case err := <-failed:
		t.Fatal(err)
	}
	return nil
}

// realImage is one with the agent, which takes a lease and dials.
func (s *site) realImage(t *testing.T) {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", bin, "../../cmd/shed-agent", "../../cmd/toolshed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	cache, err := filepath.Abs("../../.cache/image")
	if err != nil {
		t.Fatal(err)
	}
	output := t.TempDir()
	if _, err := imagebuild.Build(t.Context(), imagebuild.Options{
		Output: output, Version: "1.2.3", Epoch: 1, Cache: cache,
		Agent: filepath.Join(bin, "shed-agent"), Toolshed: filepath.Join(bin, "toolshed"),
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(output, imagebuild.DiskName)
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.image.Path, s.image.SHA256, s.image.Bytes = path, attest.Sum(disk), int64(len(disk))
}

func TestAMachineInANamespaceReachesTheControlPlane(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	namespace := s.inNamespace(t, map[string]any{"memory_bytes": 512 << 20})
	s.realImage(t)
	first := s.open(t)
	// The gateway is the host's once the first machine has a card, and the
	// socket is there before the agent looks for it.
	run(t, "ip", "netns", "exec", namespace, "ip", "link", "set", "lo", "up")
	plane := listen(t, namespace, "0.0.0.0:7443")
	config, err := api.Config{
		Version: api.ConfigVersion, Machine: string(machine), ControlPlane: "10.78.0.1:7443", TokenHash: api.Token{}.Hash(),
	}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if s.spec.Config, err = api.EncodeDrive(config, api.Token{}); err != nil {
		t.Fatal(err)
	}
	before := s.start(t, first)
	if before.Endpoint != "10.78.0.2:443" {
		t.Errorf("it is reached at %s", before.Endpoint)
	}
	if got := cards(t, namespace); len(got) != 1 {
		t.Errorf("network cards %v, want one", got)
	}
	if err := plane.(*net.TCPListener).SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	conn, err := plane.Accept()
	if err != nil {
		console, _ := os.ReadFile(filepath.Join(s.state, "machines", string(machine), "console.log"))
		t.Fatalf("no machine dials: %v\n%s", err, console)
	}
	defer conn.Close()
	hello := make([]byte, 1)
	const handshake = 22
	if _, err := io.ReadFull(conn, hello); err != nil || hello[0] != handshake {
		t.Errorf("it says %d: %v", hello[0], err)
	}
	if from := conn.RemoteAddr().(*net.TCPAddr); !from.IP.Equal(net.IPv4(10, 78, 0, 2)) {
		t.Errorf("it comes from %s", from)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := s.open(t)
	if after := await(t, second, providers.PowerOn); after.Endpoint != before.Endpoint {
		t.Errorf("it is reached at %s by the next provider, was at %s", after.Endpoint, before.Endpoint)
	}
	if err := second.Delete(t.Context(), machine, false); err != nil {
		t.Fatal(err)
	}
	if got := cards(t, namespace); len(got) != 0 {
		t.Errorf("network cards %v are left", got)
	}
}

func TestAddressesAreUniqueAndGivenBack(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	s.inNamespace(t, nil)
	p := s.open(t)
	if err := p.EnsureImage(t.Context(), s.image, nil); err != nil {
		t.Fatal(err)
	}
	// Six at once, for five addresses.
	const asked = 6
	id := func(n int) providers.MachineID {
		return providers.MachineID(strings.Repeat(string(rune('b'+n)), 26))
	}
	var mu sync.Mutex
	made, full := map[string]int{}, 0
	var creating sync.WaitGroup
	for n := range asked {
		creating.Go(func() {
			m, err := p.Create(t.Context(), providers.CreateRequest{Installation: installation, Machine: id(n), Spec: s.spec})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made[m.Endpoint] = n
			case providers.CodeOf(err) == providers.CodeQuota:
				full++
			default:
				t.Error(err)
			}
		})
	}
	creating.Wait()
	defer func() {
		for n := range asked {
			if err := p.Delete(t.Context(), id(n), false); err != nil {
				t.Error(err)
			}
		}
	}()
	if len(made) != 5 || full != 1 {
		t.Fatalf("%d machines at %v, %d refused", len(made), made, full)
	}
	for endpoint, n := range made {
		a := netip.MustParseAddrPort(endpoint)
		if !netip.MustParsePrefix("10.78.0.0/29").Contains(a.Addr()) || a.Addr() == netip.MustParseAddr("10.78.0.1") {
			t.Errorf("a machine is at %s", endpoint)
		}
		if err := p.Delete(t.Context(), id(n), false); err != nil {
			t.Fatal(err)
		}
		again, err := p.Create(t.Context(), providers.CreateRequest{Installation: installation, Machine: id(n), Spec: s.spec})
		if err != nil || again.Endpoint != endpoint {
			t.Errorf("%s was not given back: %s, %v", endpoint, again.Endpoint, err)
		}
		break
	}
}

func TestANamespaceThatIsNotThereIsRefused(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	name := s.inNamespace(t, nil)
	s.settings = []byte(strings.ReplaceAll(string(s.settings), name, "shed-test-absent"))
	err := qemu.New(qemu.Options{Version: "test"}).Configure(t.Context(), s.settings)
	if providers.CodeOf(err) != providers.CodeInvalid || !strings.Contains(fmt.Sprint(err), "shed-test-absent") {
		t.Errorf("Configure answered %v", err)
	}
}
