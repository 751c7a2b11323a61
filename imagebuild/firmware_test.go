package imagebuild_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/imagebuild"
)

var sampleShape = board.Shape{VCPUs: 2, MemoryBytes: 512 << 20}

// TestBootShowsTheFirmwaresRegisters holds registers 0, 1 and 7 of the
// manifest, seen on a board with nothing behind its parts, against those of a
// machine that boots the release: at its first start, at its second with the
// variables that it kept and other disks, and with a table more.
func TestBootShowsTheFirmwaresRegisters(t *testing.T) {
	needVM(t)
	output, m := bootable(t, func(o *imagebuild.Options) { o.Shapes = []board.Shape{sampleShape} })
	want := m.Boots[0]
	for register, value := range m.Firmware.Shapes[0].SHA256 {
		want.SHA256[register] = value
	}
	for register, value := range m.Firmware.Shapes[0].SHA384 {
		want.SHA384[register] = value
	}
	variables := filepath.Join(t.TempDir(), "vars.fd")
	copyFile(t, filepath.Join(output, imagebuild.VariablesName), variables)
	checkRegisters(t, onBoard(t, false, output, variables, "1M"), want)
	console := onBoard(t, false, output, variables, "1G", "-uuid", "11111111-2222-3333-4444-555555555555")
	checkConsole(t, console)
	checkRegisters(t, console, want)

	// A secondary table of ACPI without code: header alone, and its checksum.
	table := filepath.Join(t.TempDir(), "ssdt.aml")
	ssdt := []byte("SSDT\x24\x00\x00\x00\x02\x00ADDED ADDEDTBL\x01\x00\x00\x00TEST\x01\x00\x00\x00")
	for i, b := range ssdt {
		if i != 9 {
			ssdt[9] -= b
		}
	}
	if err := os.WriteFile(table, ssdt, 0o600); err != nil {
		t.Fatal(err)
	}
	seen := registersOn(onBoard(t, false, output, variables, "1M", "-acpitable", "file="+table))
	for register, value := range want.SHA256 {
		if same := seen["sha256 "+register] == value; same != (register != "1") {
			t.Errorf("with a table more: register %s is %s, the manifest has %s", register, seen["sha256 "+register], value)
		}
	}
}

// onBoard boots a release on sampleShape and returns what it printed.
func onBoard(t *testing.T, secureBoot bool, output, variables, dataSize string, more ...string) []string {
	t.Helper()
	return start(t, boardArguments(secureBoot, output, variables, dataSize, more...))
}

func boardArguments(secureBoot bool, output, variables, dataSize string, more ...string) []string {
	in := func(name string) string { return filepath.Join(output, name) }
	return slices.Concat([]string{
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + in(imagebuild.FirmwareName),
		"-drive", "if=pflash,format=raw,unit=1,file=" + variables,
		"-drive", "if=none,format=raw,snapshot=on,file=" + in(imagebuild.DiskName) + ",id=" + board.SystemDrive,
		"-drive", "if=none,driver=null-co,read-zeroes=on,size=" + dataSize + ",id=" + board.DataDrive,
		"-drive", "if=none,driver=null-co,read-zeroes=on,size=64K,id=" + board.ConfigDrive,
		"-netdev", "user,restrict=on,id=" + board.Network,
		"-object", "rng-random,filename=/dev/urandom,id=" + board.Randomness,
		"-chardev", "stdio,id=" + board.Console,
	}, board.Model{SecureBoot: secureBoot}.Args(sampleShape), board.Model{}.Emulated(), more)
}

func TestShapesAreCheckedFirst(t *testing.T) {
	o := sampleOptions(t)
	o.FirmwarePackage = "absent"
	var steps []string
	o.Progress = func(step string) { steps = append(steps, step) }
	o.Shapes = []board.Shape{{VCPUs: 2, MemoryBytes: 1}}
	if _, err := imagebuild.Build(t.Context(), o); !errors.Is(err, imagebuild.ErrOptions) || !errors.Is(err, board.ErrShape) || len(steps) != 1 {
		t.Errorf("got %v after %q", err, steps)
	}
	o.Shapes, steps = []board.Shape{sampleShape}, nil
	dpkg, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := os.Symlink(dpkg, filepath.Join(os.Getenv("PATH"), "dpkg-deb")); err != nil {
		t.Fatal(err)
	}
	var missing *imagebuild.MissingError
	if _, err := imagebuild.Build(t.Context(), o); !errors.As(err, &missing) || len(steps) != 1 {
		t.Errorf("without QEMU: got %v after %q", err, steps)
	}
}
