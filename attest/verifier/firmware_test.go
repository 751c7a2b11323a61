package verifier_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/attest/verifier/verifiertest"
)

// ownFirmware has the firmware of the machine's release extend registers 0 and
// 1, and two shapes in the manifest, of which the machine is the second.
func ownFirmware(m *verifiertest.Machine, t *testing.T) {
	t.Helper()
	code, tables := attest.Sum([]byte("firmware")), attest.Sum([]byte("acpi tables"))
	m.Extend(t, 0, code)
	m.Extend(t, 1, tables)
	shape := func(memory int64, tables attest.Digest) release.Shape {
		return release.Shape{Shape: board.Shape{VCPUs: 2, MemoryBytes: memory}, SHA256: map[string]string{
			"0": attest.Extend(attest.Digest{}, code).String(), "1": attest.Extend(attest.Digest{}, tables).String(),
		}}
	}
	m.Release.Firmware = &release.Firmware{Shapes: []release.Shape{
		shape(512<<20, attest.Sum([]byte("acpi tables of another shape"))), shape(1<<30, tables),
	}}
}

func reason(r attest.AttestationResult, d attest.Dimension) string { return r.Finding(d).Reason }

// Registers 0 and 1 are judged where the firmware is the release's: promise 3.
func TestOwnFirmwareIsJudged(t *testing.T) {
	m := verifiertest.Boot(t)
	ownFirmware(m, t)
	result := func() attest.AttestationResult {
		t.Helper()
		r, err := m.Input(t).Appraise(m.Policy())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	good := result()
	if !good.Accepted() {
		t.Fatalf("appraisal %+v", good)
	}
	if got := reason(good, attest.Executables); !strings.Contains(got, "pcr 0, 1, 4, 9, 11 as signed, nothing else ran") {
		t.Errorf("executables: %q", got)
	}
	if got := reason(good, attest.Hardware); !strings.Contains(got, "firmware on 2x1024MiB") {
		t.Errorf("hardware: %q", got)
	}
	shapes := m.Release.Firmware.Shapes
	for name, c := range map[string]struct {
		prepare func()
		want    []string
	}{
		"another shape":    {func() { m.Release.Firmware.Shapes = shapes[:1] }, []string{"pcr1"}},
		"an added table":   {func() { m.Extend(t, 1, attest.Sum([]byte("ssdt"))) }, []string{"pcr1"}},
		"another firmware": {func() { m.Extend(t, 0, attest.Sum([]byte("firmware volume"))) }, []string{"pcr0"}},
	} {
		m.Reboot(t)
		ownFirmware(m, t)
		c.prepare()
		r := result()
		if r.Accepted() || !slices.Equal(r.Differs, c.want) {
			t.Errorf("%s: accepted %t, differs %v, want %v", name, r.Accepted(), r.Differs, c.want)
		}
		for _, d := range []attest.Dimension{attest.Executables, attest.Hardware} {
			if f := r.Finding(d); f.Verdict != attest.Contraindicated || !strings.Contains(f.Reason, c.want[0]) {
				t.Errorf("%s: %s is %s: %q", name, d, f.Verdict, f.Reason)
			}
		}
	}
}

// Where the firmware is a cloud's they are reported, and the words say so.
func TestOthersFirmwareIsReported(t *testing.T) {
	m := verifiertest.Boot(t)
	m.Extend(t, 0, attest.Sum([]byte("a cloud's firmware")))
	m.Extend(t, 1, attest.Sum([]byte("a cloud's tables")))
	r, err := m.Input(t).Appraise(m.Policy())
	if err != nil {
		t.Fatal(err)
	}
	if !r.Accepted() {
		t.Fatalf("appraisal %+v", r)
	}
	if got := reason(r, attest.Executables); !strings.Contains(got, "but the host's firmware and acpi tables") {
		t.Errorf("executables: %q", got)
	}
	if got := reason(r, attest.Hardware); !strings.Contains(got, "0, 1 and 5 are reported, not pinned") {
		t.Errorf("hardware: %q", got)
	}
}
