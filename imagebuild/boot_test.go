package imagebuild_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild"
)

// separatorOnly is a register that holds the firmware's separator and nothing
// else.
const separatorOnly = "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"

// TestBootShowsTheExpectedRegisters holds the computed registers against those
// of a machine that booted the image, with Debian's real kernel.
func TestBootShowsTheExpectedRegisters(t *testing.T) {
	needVM(t)
	program := buildProgram(t, "./internal/testinit")
	output := t.TempDir()
	m, err := imagebuild.Build(t.Context(), imagebuild.Options{
		Output: output, Version: "1.2.3", Epoch: 4, Agent: program, Toolshed: program,
		Cache: kernelCache(t), Progress: func(step string) { t.Log(step) },
	})
	if err != nil {
		t.Fatal(err)
	}
	console := boot(t, filepath.Join(output, imagebuild.DiskName))
	checkConsole(t, console)

	seen := registersOn(console)
	for register, want := range m.Boots[0].SHA256 {
		if got := seen["sha256 "+register]; got != want {
			t.Errorf("sha256 register %s: machine has %s, manifest %s", register, got, want)
		}
	}
	for register, want := range m.Boots[0].SHA384 {
		if got := seen["sha384 "+register]; got != want {
			t.Errorf("sha384 register %s: machine has %s, manifest %s", register, got, want)
		}
	}
	for _, register := range []string{"2", "3"} {
		if got := seen["sha256 "+register]; got != separatorOnly {
			t.Errorf("register %s holds more than the separator: %s", register, got)
		}
	}
	for _, register := range []string{"12", "13", "14", "15"} {
		if got := seen["sha256 "+register]; got != strings.Repeat("0", 64) {
			t.Errorf("register %s is not zero: %s", register, got)
		}
	}
}

// checkConsole wants every module loaded under the fixed command line, with
// the kernel locked down and untainted.
func checkConsole(t *testing.T, console []string) {
	t.Helper()
	var files []string
	modules := 0
	for _, line := range console {
		switch {
		case strings.HasPrefix(line, "FAILED"):
			t.Error(line)
		case strings.HasPrefix(line, "MODULE "):
			modules++
			if !strings.HasSuffix(line, "<nil>") {
				t.Error(line)
			}
		case strings.HasPrefix(line, "FILE "), strings.HasPrefix(line, "UPTIME "):
			t.Log(line)
			files = append(files, line)
		}
	}
	if modules < 8 {
		t.Errorf("%d modules were loaded", modules)
	}
	all := strings.Join(files, "\n")
	for _, want := range []string{
		`/etc/shed/release.json {"version":"1.2.3","epoch":4}`,
		"module.sig_enforce=1", "[integrity]", "/proc/sys/kernel/tainted 0",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the machine does not show %q", want)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(console, "\n"))
	}
}

func registersOn(console []string) map[string]string {
	seen := map[string]string{}
	for _, line := range console {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "PCR" {
			seen[f[1]+" "+f[2]] = f[3]
		}
	}
	return seen
}

// kernelCache is the repository's own, so that tests download nothing twice.
func kernelCache(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../.cache/image")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
