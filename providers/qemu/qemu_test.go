package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/qemu/internal/proc"
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
		if err == nil && checkID("machine", string(r.Machine)) != nil {
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
	for program, args := range map[string][]string{programQEMU: c.qemuArgs(r), programSWTPM: c.swtpmArgs(r)} {
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
	args := strings.Join(exampleConfig().qemuArgs(exampleRecord()), " ")
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

func TestPowerThatWasNotAskedForHasAReason(t *testing.T) {
	c := exampleConfig()
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
	} {
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
	image := providers.Image{SHA256: attest.Sum(disk), Bytes: int64(len(disk))}
	copied := func(image providers.Image) (string, error) {
		f, err := os.Open(source)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		path := filepath.Join(t.TempDir(), "copy")
		return path, copyImage(t.Context(), path, f, image, func(int64, int64) {})
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
	for name, change := range map[string]func(*providers.Image){
		"another digest": func(i *providers.Image) { i.SHA256[0] ^= 1 },
		"too long":       func(i *providers.Image) { i.Bytes-- },
		"too short":      func(i *providers.Image) { i.Bytes++ },
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
	if !errors.As(err, &e) || e.Code != providers.CodeCapacity || e.Scope != providers.ScopeRegion {
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
