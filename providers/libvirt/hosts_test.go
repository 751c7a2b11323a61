package libvirt_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/libvirt"
	"github.com/toolshed-cloud/shed/providers/libvirttest"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// site is two hosts and a provider on them.
type site struct {
	hosts    []*libvirttest.Host
	provider *libvirt.Provider
	image    providers.Image
}

// hostOptions change the settings of one host.
type hostOptions map[string]any

func newSite(t *testing.T) *site {
	t.Helper()
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("starts libvirtd and QEMU: set SHED_VM_TESTS=1")
	}
	s := &site{provider: libvirt.New(libvirt.Options{Version: "test", Log: zaptest.NewLogger(t)})}
	for range 2 {
		// Sockets have short paths; a test's own directory has a long one.
		dir, err := os.MkdirTemp("", "shv-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		h, err := libvirttest.Start(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Stop(); err != nil {
				t.Errorf("ending a host: %v", err)
			}
		})
		s.hosts = append(s.hosts, h)
	}
	t.Cleanup(func() {
		if err := s.provider.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	disk := make([]byte, 1<<20)
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	s.image = providers.Image{Release: attest.ReleaseDigest{1}, Path: path, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
	s.configure(t, nil, nil)
	return s
}

// settings names the hosts a and b, as changed.
func (s *site) settings(t *testing.T, changes ...hostOptions) []byte {
	t.Helper()
	var hosts []hostOptions
	for i, h := range s.hosts {
		one := hostOptions{"name": string(rune('a' + i)), "uri": h.URI, "pool": h.Pool, "accel": "tcg"}
		for key, value := range changes[i] {
			one[key] = value
		}
		hosts = append(hosts, one)
	}
	raw, err := json.Marshal(map[string]any{
		"hosts": hosts, "grace": "10ms", "cpu_overcommit": 8,
		"sizes": []any{map[string]any{"name": "small", "vcpus": 1, "memory_bytes": 256 << 20}, map[string]any{"name": "huge", "vcpus": 64, "memory_bytes": 1 << 30}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (s *site) configure(t *testing.T, changes ...hostOptions) {
	t.Helper()
	if err := s.provider.Configure(t.Context(), s.settings(t, changes...)); err != nil {
		t.Fatal(err)
	}
}

// casesForTests are those of the suite that say most of a provider in the
// shortest time; make conformance runs all of them.
var casesForTests = []string{
	"configure-names-the-unknown", "offerings-are-complete", "image-with-another-digest-is-refused",
	"create-makes-what-was-asked-for", "create-with-another-disk-conflicts", "create-fifty-at-once-makes-one",
	"power-goes-off-and-on", "apply-grows-a-disk-that-is-in-use", "apply-refuses-an-older-generation",
	"delete-can-keep-the-data", "delete-while-it-is-created-leaves-nothing", "list-tells-what-get-tells",
	"console-is-followed-until-its-reader-goes", "attach-gives-a-machine-the-disk-of-another", "watch-tells-of-a-change",
}

func TestConformance(t *testing.T) {
	s := newSite(t)
	report, err := providertest.Check(t.Context(), providertest.Subject{
		Provider: s.provider, Settings: s.settings(t, nil, nil), Image: s.image, Patience: time.Minute,
		Spec: providers.Spec{Release: s.image.Release, Size: "small", DataBytes: 32 << 20, Config: []byte("config")},
	}, providertest.Options{Only: casesForTests})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Cases {
		if c.Outcome != providertest.Passed {
			t.Errorf("%s %s: %s", c.Name, c.Outcome, strings.Join(c.Said, "; "))
		}
	}
	if report.Leaks != 0 {
		t.Errorf("%d resources were left", report.Leaks)
	}
}

const (
	installation = providers.InstallationID("aaaaaaaaaaaaaaaaaaaaaaaaaa")
	machine      = providers.MachineID("bbbbbbbbbbbbbbbbbbbbbbbbbb")
)

func (s *site) create(t *testing.T, region, size string) (providers.Machine, error) {
	t.Helper()
	if err := s.provider.EnsureImage(t.Context(), s.image, nil); err != nil {
		t.Fatal(err)
	}
	return s.provider.Create(t.Context(), providers.CreateRequest{
		Installation: installation, Machine: machine, Generation: 1,
		Spec: providers.Spec{Release: s.image.Release, Region: region, Size: size, DataBytes: 32 << 20, Config: []byte("config")},
	})
}

func (s *site) get(t *testing.T) providers.Machine {
	t.Helper()
	m, err := s.provider.Get(t.Context(), machine)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// virsh asks a host as its operator would.
func virsh(t *testing.T, h *libvirttest.Host, args ...string) {
	t.Helper()
	if out, err := exec.Command("virsh", append([]string{"--connect", h.URI}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("virsh %v: %v: %s", args, err, out)
	}
}

func TestFullAndDrainedHostsAreAvoided(t *testing.T) {
	s := newSite(t)
	_, err := s.create(t, "a", "huge")
	if providers.CodeOf(err) != providers.CodeCapacity || providers.ScopeOf(err) != providers.ScopeRegion || !strings.Contains(fmt.Sprint(err), "host a") {
		t.Errorf("more than the host has: %v in %s", err, providers.ScopeOf(err))
	}
	s.configure(t, hostOptions{"drained": true}, nil)
	if _, err := s.create(t, "a", "small"); providers.CodeOf(err) != providers.CodeCapacity {
		t.Errorf("on the drained host: %v", err)
	}
	offerings, err := s.provider.Offerings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range offerings {
		if (o.Available > 0) != (o.Region == "b" && o.Size == "small") {
			t.Errorf("offered: %+v", o)
		}
	}
	m, err := s.create(t, "", "small")
	if err != nil || m.Region != "b" {
		t.Errorf("got %+v, %v; want a machine on b", m, err)
	}
	s.configure(t, nil, hostOptions{"drained": true})
	if m := s.get(t); m.Power != providers.PowerOn {
		t.Errorf("on a host that was drained the machine is %s", m.Power)
	}
}

func TestLostHostIsNotAnEmptyOne(t *testing.T) {
	s := newSite(t)
	if _, err := s.create(t, "b", "small"); err != nil {
		t.Fatal(err)
	}
	if err := s.hosts[1].Stop(); err != nil {
		t.Fatal(err)
	}
	_, err := s.provider.Get(t.Context(), machine)
	var told *providers.Error
	if providers.CodeOf(err) != providers.CodeUnavailable || !errors.As(err, &told) || !strings.Contains(told.Message+told.Hint, s.hosts[1].URI) {
		t.Errorf("Get answered %v", err)
	}
	if _, err := s.provider.List(t.Context(), installation, ""); providers.CodeOf(err) != providers.CodeUnavailable {
		t.Errorf("List answered %v", err)
	}
	if err := s.provider.Delete(t.Context(), machine, false); providers.CodeOf(err) != providers.CodeUnavailable {
		t.Errorf("Delete answered %v", err)
	}
	if _, err := s.create(t, "a", "small"); err != nil {
		t.Errorf("the other host: %v", err)
	}
}

func TestDriftIsToldAndMended(t *testing.T) {
	s := newSite(t)
	if _, err := s.create(t, "a", "small"); err != nil {
		t.Fatal(err)
	}
	virsh(t, s.hosts[0], "setvcpus", "shed-"+string(machine), "2", "--config", "--maximum")
	if m := s.get(t); !strings.Contains(m.Drift, "2 processors") {
		t.Errorf("the drift is %q", m.Drift)
	}
	m, err := s.provider.Apply(t.Context(), providers.Change{Machine: machine, Generation: 1})
	if err != nil || m.Drift != "" || m.Power != providers.PowerOn {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestCrashIsTold(t *testing.T) {
	s := newSite(t)
	if _, err := s.create(t, "a", "small"); err != nil {
		t.Fatal(err)
	}
	virsh(t, s.hosts[0], "destroy", "shed-"+string(machine))
	if m := s.get(t); m.Power != providers.PowerCrashed || m.Reason == "" {
		t.Errorf("the machine is %s: %s", m.Power, m.Reason)
	}
	if err := s.provider.SetPower(t.Context(), machine, true); err != nil {
		t.Fatal(err)
	}
	if m := s.get(t); m.Power != providers.PowerOn {
		t.Errorf("the machine is %s: %s", m.Power, m.Reason)
	}
}

func TestWhatIsNotOursIsNotTouched(t *testing.T) {
	s := newSite(t)
	h := s.hosts[0]
	// A domain of our name without our tags, and a volume of another name.
	foreign := filepath.Join(t.TempDir(), "domain.xml")
	text := "<domain type='qemu'><name>shed-" + string(machine) + "</name><memory unit='MiB'>64</memory><os><type arch='x86_64'>hvm</type></os></domain>"
	if err := os.WriteFile(foreign, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	virsh(t, h, "define", foreign)
	virsh(t, h, "vol-create-as", h.Pool, "somebody.img", "1M")
	if _, err := s.create(t, "a", "small"); providers.CodeOf(err) != providers.CodeConflict {
		t.Errorf("Create answered %v", err)
	}
	if err := s.provider.Delete(t.Context(), machine, false); providers.CodeOf(err) != providers.CodeConflict {
		t.Errorf("Delete answered %v", err)
	}
	if page, err := s.provider.List(t.Context(), installation, ""); err != nil || len(page.Resources) != 0 {
		t.Errorf("List answered %+v, %v", page, err)
	}
	virsh(t, h, "dominfo", "shed-"+string(machine))
	virsh(t, h, "vol-info", "--pool", h.Pool, "somebody.img")
}

func TestDeletionLeavesNothingOnTheHost(t *testing.T) {
	s := newSite(t)
	if _, err := s.create(t, "a", "small"); err != nil {
		t.Fatal(err)
	}
	h := s.hosts[0]
	kept := func() (all []string) {
		for _, pattern := range []string{"lib/swtpm/*", "lib/qemu/nvram/*", "lib/images/shed." + string(installation) + "*"} {
			found, err := filepath.Glob(filepath.Join(h.Dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, found...)
		}
		return all
	}
	if n := len(kept()); n != 6 {
		t.Errorf("a machine has %v, want a TPM, variables and four volumes", kept())
	}
	if err := s.provider.Delete(context.WithoutCancel(t.Context()), machine, false); err != nil {
		t.Fatal(err)
	}
	if left := kept(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// swtpm_setup writes the certificates into the TPM; its log has them made by
// the CA that the host was given.
func TestTPMsAreVouchedForByTheHostsCA(t *testing.T) {
	s := newSite(t)
	if _, err := s.create(t, "a", "small"); err != nil {
		t.Fatal(err)
	}
	pemText, err := os.ReadFile(s.hosts[0].Root())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(pemText)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !root.IsCA || root.CheckSignatureFrom(root) != nil {
		t.Errorf("%s is no root", root.Subject)
	}
	serial, err := os.ReadFile(filepath.Join(s.hosts[0].Dir, "ca", "certserial"))
	if err != nil || strings.TrimSpace(string(serial)) == "1" {
		t.Errorf("the CA has signed nothing: serial %s, %v", serial, err)
	}
	logs, err := filepath.Glob(filepath.Join(s.hosts[0].Dir, "swtpm-log", "libvirt", "qemu", "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v, %v", logs, err)
	}
	said, err := os.ReadFile(logs[0])
	if err != nil || !slices.ContainsFunc(strings.Split(string(said), "\n"), func(line string) bool {
		return strings.Contains(line, "Successfully created NVRAM area") && strings.Contains(line, "ECC EK certificate")
	}) {
		t.Errorf("no certificate of a key on a curve was written: %s, %v", said, err)
	}
}
