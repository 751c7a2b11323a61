package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
	"github.com/toolshed-cloud/shed/providers/sdk"
)

func TestSettingsNameWhatIsWrong(t *testing.T) {
	good := map[string]any{"state_dir": "/s", "runtime_dir": "/r"}
	for field, value := range map[string]any{
		"state_dir":    "relative",
		"runtime_dir":  "/" + strings.Repeat("r", 100),
		"memory_bytes": 1,
		"vcpus":        0,
		"accel":        "warp",
		"grace":        "-1s",
		"port_first":   80,
		"port_last":    19999,
		"network":      map[string]any{"namespace": "../n", "range": "10.7.0.0/24", "gateway": "10.7.0.1"},
		"limits":       map[string]any{"cgroup": "relative"},
		"other":        1,
	} {
		settings := map[string]any{field: value}
		for k, v := range good {
			if _, set := settings[k]; !set {
				settings[k] = v
			}
		}
		b, err := json.Marshal(settings)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parseSettings(b)
		if providers.CodeOf(err) != providers.CodeInvalid || !strings.Contains(fmt.Sprint(err), field) {
			t.Errorf("%s = %v: %v", field, value, err)
		}
	}
}

func TestPathsThatTheToolsWouldMisreadAreRefused(t *testing.T) {
	for _, path := range []string{"/a,b", "/a#b", "/a$b", "/a\nb", "/~"} {
		for _, s := range []settings{{StateDir: path, RuntimeDir: "/r"}, {StateDir: "/s", RuntimeDir: path}} {
			if err := s.check(); err == nil || !strings.Contains(fmt.Sprint(err), "control character") {
				t.Errorf("%q: %v", path, err)
			}
		}
	}
}

func TestSchemaKnowsEverySetting(t *testing.T) {
	var document struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(schema, &document); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(settings{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		if _, ok := document.Properties[name]; !ok {
			t.Errorf("the schema does not know %s", name)
		}
	}
	if len(fields) != len(document.Properties) {
		t.Errorf("the schema knows %d settings, there are %d", len(document.Properties), len(fields))
	}
}

func TestMissingToolsAreNamedWithTheirPackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	state := filepath.Join(t.TempDir(), "state")
	b, err := json.Marshal(map[string]any{"state_dir": state, "runtime_dir": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	p := New(Options{})
	err = p.Configure(t.Context(), b)
	if providers.CodeOf(err) != providers.CodeInvalid {
		t.Fatalf("Configure answered %v", err)
	}
	for _, pkg := range []string{"qemu-system-x86", "qemu-utils", "swtpm", "swtpm-tools"} {
		if !strings.Contains(fmt.Sprint(err), pkg) {
			t.Errorf("%s is not named in %q", pkg, err)
		}
	}
	if strings.Contains(fmt.Sprint(err), "\n") {
		t.Errorf("the error has more than a line: %q", err)
	}
	if there, err := exists(state); err != nil || there {
		t.Errorf("the state directory was made: %v", err)
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(`{"state_dir":"/s","runtime_dir":"/r","grace":"1s"}`))
	f.Add([]byte(`{"state_dir":"/s","runtime_dir":"/r"}{}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSettings(b); err == nil && (!filepath.IsAbs(s.StateDir) || s.VCPUs < 1) {
			t.Errorf("accepted %+v", s)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	b, err := json.Marshal(record{Version: recordVersion, Machine: machineIDExample, Installation: "aaaaaaaaaaaaaaaaaaaaaaaaaa"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"machine":"../../etc"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil && sdk.CheckID("machine", r.Machine) != nil {
			t.Errorf("accepted the machine %q", r.Machine)
		}
	})
}

func exampleConfig() *config {
	return &config{
		settings: settings{StateDir: "/state", RuntimeDir: "/run", Accel: accelTCG},
		tools:    tools{firmware: "/firmware"},
		boot:     "boot",
	}
}

func exampleRecord() record {
	return record{
		Version: recordVersion, Machine: machineIDExample, Installation: "cccccccccccccccccccccccccc",
		MemoryBytes: 1 << 30, VCPUs: 2, Port: 20000, On: true, QEMU: proc.ID{PID: 1, Boot: "boot"},
	}
}

func TestProcessesAreKnownByTheirCommandLine(t *testing.T) {
	c, r := exampleConfig(), exampleRecord()
	for program, args := range map[string][]string{programQEMU: c.qemuArgs(r, firmware{code: "/firmware"}), programSWTPM: c.swtpmArgs(r)} {
		o, ok := c.claim(append([]string{"/usr/bin/" + program}, args...))
		if !ok || o.program != program || o.machine != r.Machine || o.installation != r.Installation {
			t.Errorf("%s was taken for %+v, %t", program, o, ok)
		}
		elsewhere := *c
		elsewhere.StateDir = "/stat"
		if _, ok := elsewhere.claim(append([]string{program}, args...)); ok {
			t.Errorf("%s of another state directory was taken for ours", program)
		}
		if _, ok := c.claim(append([]string{"cat"}, args...)); ok {
			t.Error("another program was taken for ours")
		}
	}
	if _, ok := c.claim([]string{programQEMU}); ok {
		t.Error("a QEMU of somebody else's was taken for ours")
	}
}

// The machine has nothing that would run before the release, and nobody but
// this host can reach it.
func TestMachineHasOnlyWhatItNeeds(t *testing.T) {
	args := strings.Join(exampleConfig().qemuArgs(exampleRecord(), firmware{code: "/firmware"}), " ")
	for _, needed := range []string{
		"-nodefaults", "-no-user-config", "romfile=", "hostfwd=tcp:127.0.0.1:20000-:443", "-sandbox on",
		"serial=shed-system", "serial=shed-data", "serial=shed-config", "tpm-crb",
	} {
		if !strings.Contains(args, needed) {
			t.Errorf("%s is not among %s", needed, args)
		}
	}
	if strings.Contains(args, "-vga") || strings.Contains(args, "-kernel") {
		t.Errorf("there is too much in %s", args)
	}
}

// A machine keeps its shape, which its firmware was measured on, whatever is
// made from now on.
func TestMachineKeepsItsShape(t *testing.T) {
	c, r := exampleConfig(), exampleRecord()
	before := c.qemuArgs(r, firmware{code: "/firmware"})
	c.VCPUs, c.MemoryBytes = 7, 7<<30
	if after := c.qemuArgs(r, firmware{code: "/firmware"}); !slices.Equal(after, before) {
		t.Errorf("%v became %v", before, after)
	}
}

func TestPowerThatWasNotAskedForHasAReason(t *testing.T) {
	c := exampleConfig()
	c.StateDir = t.TempDir()
	for name, test := range map[string]struct {
		change func(m *machine)
		want   providers.Power
		reason string
	}{
		"off":          {func(m *machine) { m.record.On = false }, providers.PowerOff, ""},
		"deleting":     {func(m *machine) { m.record.Deleting = true }, providers.PowerPending, "deleting"},
		"starting":     {func(m *machine) { m.task = &task{doing: "starting"} }, providers.PowerPending, "starting"},
		"failed":       {func(m *machine) { m.record.Failure = "no disk" }, providers.PowerCrashed, "no disk"},
		"host restart": {func(m *machine) { m.record.QEMU.Boot = "before" }, providers.PowerCrashed, "host"},
		"died":         {func(m *machine) { m.exit = errors.New("signal: killed") }, providers.PowerCrashed, "killed"},
		"shut down":    {func(*machine) {}, providers.PowerCrashed, "itself"},
		"reset":        {func(m *machine) { m.restarting = true }, providers.PowerPending, "anew"},
		// Its parent, which knew the signal, is gone.
		"crashed": {func(m *machine) {
			dir := c.machineDir(m.record.Machine)
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, pidFile), nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, providers.PowerCrashed, "crashed or was killed"},
	} {
		if err := os.RemoveAll(c.StateDir); err != nil {
			t.Fatal(err)
		}
		m := &machine{record: exampleRecord()}
		test.change(m)
		power, reason := m.power(c)
		if power != test.want || !strings.Contains(reason, test.reason) || (test.reason == "") != (reason == "") {
			t.Errorf("%s: %s, %q", name, power, reason)
		}
	}
}

func TestImageIsCopiedSparselyAndVerified(t *testing.T) {
	disk := make([]byte, 3<<20)
	disk[1<<20] = 1
	source := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(source, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	image := providers.File{Path: source, SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
	copied := func(image providers.File) (string, error) {
		path := filepath.Join(t.TempDir(), "copy")
		return path, copyImage(t.Context(), path, "image", image, func(int64, int64) {})
	}
	path, err := copied(image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil || attest.Sum(got) != image.SHA256 {
		t.Errorf("the copy differs: %v", err)
	}
	if used := usedBytes(path); used >= int64(len(disk)) {
		t.Errorf("the copy takes %d bytes", used)
	}
	for name, change := range map[string]func(*providers.File){
		"another digest": func(i *providers.File) { i.SHA256[0] ^= 1 },
		"too long":       func(i *providers.File) { i.Bytes-- },
		"too short":      func(i *providers.File) { i.Bytes++ },
	} {
		wrong := image
		change(&wrong)
		if _, err := copied(wrong); providers.CodeOf(err) != providers.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFullDiskIsCapacity(t *testing.T) {
	err := failure(&os.PathError{Op: "write", Path: "/x", Err: unix.ENOSPC}, "making a disk")
	var e *providers.Error
	if !errors.As(err, &e) || e.Code != providers.CodeCapacity {
		t.Errorf("got %v", err)
	}
}

func TestProbeGuestRunsUnderEmulation(t *testing.T) {
	if os.Getenv("SHED_VM_TESTS") == "" {
		t.Skip("starts QEMU: set SHED_VM_TESTS=1")
	}
	tools, err := findTools()
	if err != nil {
		t.Fatal(err)
	}
	c := &config{settings: settings{StateDir: t.TempDir()}, tools: tools}
	if err := os.Mkdir(c.path(tempDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.probe(t.Context(), accelTCG, probePatience); err != nil {
		t.Error(err)
	}
	if err := c.probe(t.Context(), accelTCG, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a probe without time answered %v", err)
	}
}

func TestKnownVerdictIsNotProbedAgain(t *testing.T) {
	c := &config{settings: settings{StateDir: t.TempDir(), Accel: accelAuto}, boot: "boot"}
	b, err := json.Marshal(probeVerdict{Boot: "boot", Reason: "it was slow"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path(probeFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.chooseAccelerator(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Accel != accelTCG || c.note != "software emulation: it was slow" {
		t.Errorf("accelerator %s, note %q", c.Accel, c.note)
	}
	c.Accel = accelKVM
	if err := c.chooseAccelerator(t.Context()); providers.CodeOf(err) != providers.CodeInvalid {
		t.Errorf("KVM was asked for and does not work: %v", err)
	}
}

func TestConsoleThatGrewTooLargeIsEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), consoleFile)
	if err := makeBlank(path, maxConsoleBytes); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{maxConsoleBytes, 0} {
		if err := boundLog(path); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() != want {
			t.Errorf("console has %d bytes, want %d (%v)", info.Size(), want, err)
		}
		if err := os.Truncate(path, maxConsoleBytes+1); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFirmwareIsTheReleases has a machine start with the firmware of its own
// release, on a board that the release was measured on, and on no other.
func TestFirmwareIsTheReleases(t *testing.T) {
	c := exampleConfig()
	c.StateDir, c.VCPUs, c.MemoryBytes = t.TempDir(), 2, 512<<20
	c.tools.firmware, c.tools.variables = "/host/firmware", "/host/variables"
	if err := c.makeDirs(); err != nil {
		t.Fatal(err)
	}
	file := func(content string) providers.File {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return providers.File{Path: path, SHA256: attest.Sum([]byte(content)), Bytes: int64(len(content))}
	}
	disk := file("disk")
	plain := providers.Image{Release: attest.ReleaseDigest{1}, Path: disk.Path, SHA256: disk.SHA256, Bytes: disk.Bytes}
	own := plain
	own.Release = attest.ReleaseDigest{2}
	own.Firmware = &providers.Firmware{Code: file("code"), Variables: file("vars"), SecureBoot: true, Shapes: []board.Shape{c.shape()}}
	altered := own
	altered.Release = attest.ReleaseDigest{3}
	altered.Firmware = &providers.Firmware{Code: own.Firmware.Code, Variables: file("vars"), Shapes: own.Firmware.Shapes}
	altered.Firmware.Code.SHA256[0] ^= 1
	p := New(Options{})
	p.config = c
	for _, image := range []providers.Image{plain, own, own} {
		if err := p.EnsureImage(t.Context(), image, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.EnsureImage(t.Context(), altered, nil); providers.CodeOf(err) != providers.CodeInvalid || !strings.Contains(fmt.Sprint(err), "firmware has sha256") {
		t.Errorf("altered firmware: %v", err)
	}
	f, err := c.firmware(plain.Release)
	if f.code != "/host/firmware" || f.variables != "/host/variables" || f.model.SecureBoot || err != nil {
		t.Errorf("without firmware: %+v, %v", f, err)
	}
	f, err = c.firmware(own.Release)
	if err != nil || !f.model.SecureBoot {
		t.Fatalf("its own firmware: %+v, %v", f, err)
	}
	for path, want := range map[string]string{f.code: "code", f.variables: "vars"} {
		if got, err := os.ReadFile(path); string(got) != want || err != nil {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
	}
	its := filepath.Join(t.TempDir(), "variables")
	if err := c.copyVariables(record{Release: own.Release}, its); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(its); string(got) != "vars" || err != nil {
		t.Errorf("the machine's own variables are %q, %v", got, err)
	}
	another := own
	another.Firmware = altered.Firmware
	if err := p.EnsureImage(t.Context(), another, nil); providers.CodeOf(err) != providers.CodeConflict {
		t.Errorf("another firmware for the same release: %v", err)
	}
	if err := c.haveImage(own.Release); err != nil {
		t.Error(err)
	}
	c.MemoryBytes = 1 << 30
	if err := c.haveImage(plain.Release); err != nil {
		t.Error(err)
	}
	if err := c.haveImage(own.Release); providers.CodeOf(err) != providers.CodeInvalid || !strings.Contains(fmt.Sprint(err), "built for machines of [2x512MiB]") {
		t.Errorf("another shape: %v", err)
	}
}

// The limit counts what disks may grow to, and those that are kept and copied.
func TestDataLimit(t *testing.T) {
	p := New(Options{})
	c := &config{settings: settings{StateDir: t.TempDir(), DataLimitBytes: 100 << 20}}
	for _, dir := range []string{keptDir, snapshotDir} {
		if err := os.MkdirAll(c.path(dir, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(record{Machine: machineIDExample, DataBytes: 32 << 20})
	p.machines[machineIDExample] = m
	if err := p.promise(c, m, 100<<20); err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	if err := c.dataRoom(p.promised(), 1); providers.CodeOf(err) != providers.CodeQuota || providers.ScopeOf(err) != providers.ScopeAccount {
		t.Errorf("beyond it: %v", err)
	}
	m.promised.Store(32 << 20)
	if err := makeBlank(c.path(keptDir, "x", dataFile), 40<<20); err != nil {
		t.Fatal(err)
	}
	if err := makeBlank(c.path(snapshotDir, "x", dataFile), 20<<20); err != nil {
		t.Fatal(err)
	}
	if err := p.promise(c, m, 40<<20); err != nil {
		t.Errorf("beside a kept disk and a snapshot: %v", err)
	}
	if err := p.promise(c, m, 41<<20); providers.CodeOf(err) != providers.CodeQuota {
		t.Errorf("beyond them: %v", err)
	}
	c.DataLimitBytes = 0
	if err := p.promise(c, m, 1<<40); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}

// An image for arm64 is taken where QEMU for it is there, and runs on its board.
func TestArchitectureIsTheImages(t *testing.T) {
	c := exampleConfig()
	image := providers.Image{Release: attest.ReleaseDigest{1}, Architecture: board.ARM64, Firmware: &providers.Firmware{}}
	for name, change := range map[string]func(*config, *providers.Image){
		"apt-get install qemu-system-arm": func(c *config, _ *providers.Image) { c.tools.qemuARM64 = "" },
		"brings no firmware":              func(_ *config, i *providers.Image) { i.Firmware = nil },
		`is for "riscv64"`:                func(_ *config, i *providers.Image) { i.Architecture = "riscv64" },
	} {
		host, asked := *c, image
		host.tools.qemuARM64 = "/usr/bin/" + programARM64
		if err := host.checkArchitecture(asked); err != nil {
			t.Fatal(err)
		}
		change(&host, &asked)
		if err := host.checkArchitecture(asked); providers.CodeOf(err) != providers.CodeInvalid || !strings.Contains(fmt.Sprint(err), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	arm := board.Model{Architecture: board.ARM64}
	r := exampleRecord()
	args := c.qemuArgs(r, firmware{code: "/firmware", model: arm})
	if text := strings.Join(args, " "); !strings.Contains(text, "-machine virt-") || !strings.Contains(text, "tpm-tis-device") {
		t.Errorf("arguments %s", text)
	}
	if o, ok := c.claim(append([]string{"/usr/bin/" + programARM64}, args...)); !ok || o.program != programQEMU || o.machine != r.Machine {
		t.Errorf("it was taken for %+v, %t", o, ok)
	}
	for accel, model := range map[accelerator]board.Model{accelKVM: {Architecture: otherArchitecture()}, accelTCG: {}} {
		if got := accel.args(model); !slices.Equal(got, model.Emulated()) {
			t.Errorf("%s for %+v: %q", accel, model, got)
		}
	}
}

func otherArchitecture() string {
	if runtime.GOARCH == board.ARM64 {
		return board.AMD64
	}
	return board.ARM64
}

// Whose guest starts anew is started, also while what started it is not through, and
// nobody else.
func TestWhoIsStartedAnew(t *testing.T) {
	for name, test := range map[string]struct {
		change func(m *machine)
		want   bool
	}{
		"reset":             {func(*machine) {}, true},
		"ended":             {func(m *machine) { m.restarting = false }, false},
		"switched off":      {func(m *machine) { m.record.On = false }, false},
		"deleted":           {func(m *machine) { m.record.Deleting = true }, false},
		"started meanwhile": {func(m *machine) { m.record.QEMU.PID++ }, false},
	} {
		p, c := New(Options{}), exampleConfig()
		c.StateDir = t.TempDir()
		m := newMachine(exampleRecord())
		if err := os.MkdirAll(c.machineDir(m.record.Machine), 0o700); err != nil {
			t.Fatal(err)
		}
		m.record.On, m.restarting = true, true
		id := m.record.QEMU
		m.mu.Lock()
		starting := p.begin(c, m, "starting", func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		test.change(m)
		m.mu.Unlock()
		p.ended(c, m, id)
		m.mu.Lock()
		if anew := m.task != starting; anew != test.want || m.record.QEMU.IsZero() != test.want {
			t.Errorf("%s: started anew: %t, %+v", name, anew, m.record.QEMU)
		}
		m.mu.Unlock()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A process that has ended is none that crashed before QEMU has had its say.
func TestEndIsNoCrashBeforeItsReasonIsKnown(t *testing.T) {
	p, c := New(Options{}), exampleConfig()
	m := newMachine(exampleRecord())
	m.record.QEMU.Boot = c.boot
	ours, theirs := net.Pipe()
	m.mu.Lock()
	p.watchEnd(c, m, ours)
	power, reason := m.power(c)
	m.mu.Unlock()
	if power != providers.PowerPending {
		t.Errorf("before: %s (%s)", power, reason)
	}
	theirs.Close()
	p.work.Wait()
	m.mu.Lock()
	power, reason = m.power(c)
	m.mu.Unlock()
	if power != providers.PowerCrashed {
		t.Errorf("after: %s (%s)", power, reason)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
