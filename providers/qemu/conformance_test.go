package qemu_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/providertest"
	"github.com/toolshed-cloud/shed/providers/qemu"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/qmp"
)

// needVMs skips where starting QEMU was not asked for.
func needVMs(t *testing.T) {
	t.Helper()
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("starts QEMU: set SHED_VM_TESTS=1")
	}
}

// site is where one test's provider lives.
type site struct {
	state    string
	runtime  string
	settings []byte
	image    providers.Image
	spec     providers.Spec
	// opened are the providers that have been on it.
	opened []*qemu.Provider
}

func newSite(t *testing.T) *site {
	t.Helper()
	// Sockets have short paths; a test's own directory has a long one.
	runtime, err := os.MkdirTemp("", "shq-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runtime) })
	s := &site{state: t.TempDir(), runtime: runtime}
	s.settings, err = json.Marshal(map[string]any{
		"state_dir":    s.state,
		"runtime_dir":  runtime,
		"memory_bytes": 256 << 20,
		"vcpus":        1,
		"accel":        "tcg",
		// Nothing in these machines hears the power button.
		"grace": "10ms",
	})
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, 1<<20)
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	s.image = providers.Image{Release: attest.ReleaseDigest{1}, Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
	s.spec = providers.Spec{Release: s.image.Release, DataBytes: 32 << 20, Config: []byte("config")}
	return s
}

// open answers a provider on the site, closed with the test.
func (s *site) open(t *testing.T) *qemu.Provider {
	t.Helper()
	p := qemu.New(qemu.Options{Version: "test", Log: zaptest.NewLogger(t)})
	s.opened = append(s.opened, p)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if err := p.Configure(t.Context(), s.settings); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestConformance(t *testing.T) {
	needVMs(t)
	providertest.Run(t, func(t *testing.T) providertest.Subject {
		s := newSite(t)
		return providertest.Subject{
			Provider: s.open(t),
			Settings: s.settings,
			Image:    s.image,
			Spec:     s.spec,
			Patience: time.Minute,
		}
	})
}

const (
	installation = providers.InstallationID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	machine      = providers.MachineID("bbbbbbbbbbbbbbbbbbbbbbbbbb")
)

// start makes the test's machine, which is deleted with the test.
func (s *site) start(t *testing.T, p providers.Provider) providers.Machine {
	t.Helper()
	s.begin(t, p)
	return await(t, p, providers.PowerOn)
}

// begin is start that does not wait for it.
func (s *site) begin(t *testing.T, p providers.Provider) {
	t.Helper()
	if err := p.EnsureImage(t.Context(), s.image, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.delete(t) })
	req := providers.CreateRequest{Installation: installation, Machine: machine, Spec: s.spec}
	if _, err := p.Create(t.Context(), req); err != nil {
		t.Fatal(err)
	}
}

// delete removes the machine through a provider of its own, whatever became of
// the one that made it.
func (s *site) delete(t *testing.T) {
	for _, p := range s.opened {
		if err := p.Close(); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	}
	p := qemu.New(qemu.Options{Version: "test"})
	ctx := context.WithoutCancel(t.Context())
	if err := p.Configure(ctx, s.settings); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
	if err := p.Delete(ctx, machine, false); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
	page, err := p.List(ctx, installation, "")
	if err != nil || len(page.Resources) != 0 {
		t.Errorf("after cleaning up: %+v, %v", page.Resources, err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("cleaning up: %v", err)
	}
}

func await(t *testing.T, p providers.Provider, want providers.Power) providers.Machine {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		m, err := p.Get(t.Context(), machine)
		if err != nil {
			t.Fatal(err)
		}
		if m.Power == want {
			return m
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("machine is %s (%s), want %s", m.Power, m.Reason, want)
		}
	}
}

func processes(m providers.Machine) (ids []string) {
	for _, r := range m.Resources {
		if r.Kind == providers.ResourceProcess {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

func TestEndorsementCertificateChainsToTheExportedRoot(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	m := s.start(t, s.open(t))
	der, err := os.ReadFile(filepath.Join(s.state, "machines", string(m.ID), "tpm", "ek.der"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(s.state, "ca", "ek-root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(root); err != nil {
		t.Error(err)
	}
	if cert.PublicKeyAlgorithm != x509.ECDSA {
		t.Errorf("certificate is of a key of %s", cert.PublicKeyAlgorithm)
	}
	if cert.Subject.CommonName != string(machine) {
		t.Errorf("certificate is of %q", cert.Subject.CommonName)
	}
}

// kill ends one of the machine's processes behind the provider's back.
func kill(t *testing.T, process string) {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimPrefix(process, "pid/"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestCrashedMachineSaysSoAndStartsAgain(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	p := s.open(t)
	before := s.start(t, p)
	kill(t, processes(before)[0])
	if m := await(t, p, providers.PowerCrashed); !strings.Contains(m.Reason, "killed") {
		t.Errorf("the reason is %q", m.Reason)
	}
	if err := p.SetPower(t.Context(), machine, true); err != nil {
		t.Fatal(err)
	}
	after := await(t, p, providers.PowerOn)
	if slices.Equal(processes(after), processes(before)) || len(processes(after)) != 2 {
		t.Errorf("processes %v, were %v", processes(after), processes(before))
	}
}

// The restart of an emulated guest is one of QEMU, and no crash.
func TestGuestThatStartsAnew(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	p := s.open(t)
	before := s.start(t, p)
	monitors, err := filepath.Glob(filepath.Join(s.runtime, "*"))
	if err != nil || len(monitors) != 1 {
		t.Fatalf("%v, %v", monitors, err)
	}
	monitor, err := qmp.Dial(t.Context(), monitors[0])
	if err != nil {
		t.Fatal(err)
	}
	// QEMU may end before it has answered.
	_ = monitor.Execute(t.Context(), "system_reset")
	monitor.Close()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		m, err := p.Get(t.Context(), machine)
		if err != nil || m.Power != providers.PowerOn && m.Power != providers.PowerPending {
			t.Fatalf("the machine is %s (%s): %v", m.Power, m.Reason, err)
		}
		now, was := processes(m), processes(before)
		if m.Power == providers.PowerOn && len(now) == 2 && now[0] != was[0] && now[1] != was[1] {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the processes are %v, were %v", now, was)
		}
	}
}

func TestMachineKeepsItsPortThoughItIsTaken(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	p := s.open(t)
	before := s.start(t, p)
	if err := p.SetPower(t.Context(), machine, false); err != nil {
		t.Fatal(err)
	}
	await(t, p, providers.PowerOff)
	other, err := net.Listen("tcp", before.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := p.SetPower(t.Context(), machine, true); err != nil {
		t.Fatal(err)
	}
	if m := await(t, p, providers.PowerCrashed); !strings.Contains(m.Reason, before.Endpoint) {
		t.Errorf("the reason is %q", m.Reason)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.SetPower(t.Context(), machine, true); err != nil {
		t.Fatal(err)
	}
	if after := await(t, p, providers.PowerOn); after.Endpoint != before.Endpoint {
		t.Errorf("reached at %s, was at %s", after.Endpoint, before.Endpoint)
	}
}

func TestSecondProviderOnTheSameStateIsRefused(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	s.open(t)
	second := qemu.New(qemu.Options{Version: "test"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := second.Configure(ctx, s.settings)
	if providers.CodeOf(err) != providers.CodeUnavailable || !strings.Contains(fmt.Sprint(err), s.state) {
		t.Errorf("Configure answered %v", err)
	}
}

func TestPowerOffIsFinishedByTheNextProvider(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	first := s.open(t)
	s.start(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	rewrite(t, s, func(record map[string]any) { record["on"] = false })
	if m := await(t, s.open(t), providers.PowerOff); len(processes(m)) != 0 {
		t.Errorf("processes %v are left", processes(m))
	}
}

func TestLostTPMIsTold(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	p := s.open(t)
	m := s.start(t, p)
	if m.Reason != "" {
		t.Errorf("a healthy machine has the reason %q", m.Reason)
	}
	kill(t, processes(m)[1])
	deadline := time.Now().Add(time.Minute)
	for m.Reason == "" && time.Now().Before(deadline) {
		m = await(t, p, providers.PowerOn)
	}
	if !strings.Contains(m.Reason, "TPM") {
		t.Errorf("the reason is %q", m.Reason)
	}
}

func TestDeletionIsFinishedByTheNextProvider(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	first := s.open(t)
	s.start(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	rewrite(t, s, func(record map[string]any) { record["deleting"], record["keep_data"] = true, true })
	second := s.open(t)
	// Joining the deletion under way is how its end is waited for.
	if err := second.Delete(t.Context(), machine, true); err != nil {
		t.Fatal(err)
	}
	page, err := second.List(t.Context(), installation, "")
	if err != nil || len(page.Resources) != 1 || page.Resources[0].Kind != providers.ResourceDataDisk {
		t.Errorf("left: %+v, %v; want the data disk alone", page.Resources, err)
	}
}

func TestMachineOutlivesItsProvider(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	first := s.open(t)
	before := s.start(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := s.open(t).Get(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	if after.Power != providers.PowerOn {
		t.Errorf("machine is %s: %s", after.Power, after.Reason)
	}
	if got, want := processes(after), processes(before); len(want) != 2 || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("processes %v, were %v", got, want)
	}
}

func TestCreationIsFinishedByTheNextProvider(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	first := s.open(t)
	if err := first.EnsureImage(t.Context(), s.image, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.delete(t) })
	req := providers.CreateRequest{Installation: installation, Machine: machine, Spec: s.spec}
	if _, err := first.Create(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	// The TPM takes longer to make than this takes: the machine is half-made.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, s.open(t), providers.PowerOn)
}

func TestProcessesAreFoundThoughNoRecordNamesThem(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	first := s.open(t)
	before := s.start(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// As a crash between starting them and writing that down leaves it.
	rewrite(t, s, func(record map[string]any) {
		none := map[string]any{"pid": 0, "start": 0, "boot": ""}
		record["qemu"], record["swtpm"] = none, none
	})
	after, err := s.open(t).Get(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := processes(after), processes(before); len(want) != 2 || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("processes %v, were %v", got, want)
	}
}

// rewrite changes the machine's record while no provider runs.
func rewrite(t *testing.T, s *site, change func(record map[string]any)) {
	t.Helper()
	path := filepath.Join(s.state, "machines", string(machine), "machine.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(b, &record); err != nil {
		t.Fatal(err)
	}
	change(record)
	if b, err = json.Marshal(record); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestProcessesWithoutADirectoryAreLeftovers(t *testing.T) {
	needVMs(t)
	s := newSite(t)
	first := s.open(t)
	before := s.start(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.state, "machines", string(machine))); err != nil {
		t.Fatal(err)
	}
	second := s.open(t)
	page, err := second.List(t.Context(), installation, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Resources) != len(processes(before)) {
		t.Errorf("leftovers %+v, want the processes %v", page.Resources, processes(before))
	}
	if err := second.Delete(t.Context(), machine, false); err != nil {
		t.Fatal(err)
	}
	page, err = second.List(t.Context(), installation, "")
	if err != nil || len(page.Resources) != 0 {
		t.Errorf("after Delete: %+v, %v", page.Resources, err)
	}
}
