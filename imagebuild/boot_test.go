package imagebuild_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
	"github.com/toolshed-cloud/shed/imagebuild/disk"
)

// separatorOnly is a register that holds the firmware's separator and nothing
// else.
const separatorOnly = "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969"

// TestBootShowsTheExpectedRegisters holds the computed registers against those
// of a machine that booted the image, with Debian's real kernel.
func TestBootShowsTheExpectedRegisters(t *testing.T) {
	needVM(t)
	output, m := bootable(t, func(*imagebuild.Options) {})
	console := boot(t, plainFirmware, filepath.Join(output, imagebuild.DiskName))
	checkConsole(t, console)
	checkRegisters(t, console, m.Boots[0])
}

// TestBootWithLaterStub boots with Debian 13's stub, which measures more
// sections and adds to the initrd.
func TestBootWithLaterStub(t *testing.T) {
	needVM(t)
	p, err := debian.FetchFrom(t.Context(), "trixie", "systemd-boot-efi", kernelCache(t))
	if err != nil {
		t.Fatal(err)
	}
	stub := filepath.Join(t.TempDir(), "later.stub")
	err = debian.Files(t.Context(), p.Path, 1<<20, func(name string) bool { return "/"+name == imagebuild.DefaultStub },
		func(_ string, data []byte) error { return os.WriteFile(stub, data, 0o600) })
	if err != nil {
		t.Fatal(err)
	}
	output, m := bootable(t, func(o *imagebuild.Options) { o.Stub = stub })
	if m.StubVersion < 257 {
		t.Fatalf("the stub has version %d", m.StubVersion)
	}
	console := boot(t, plainFirmware, filepath.Join(output, imagebuild.DiskName))
	checkConsole(t, console)
	checkRegisters(t, console, m.Boots[0])
}

// TestBootWithSecureBoot signs the image with the key that Debian's firmware
// for tests has enrolled: the stub then goes round the firmware to start the
// kernel, and register 4 has one event less.
func TestBootWithSecureBoot(t *testing.T) {
	needVM(t)
	sbsign, err := exec.LookPath("sbsign")
	if err != nil {
		t.Skip("no sbsign: it is in the package sbsigntool")
	}
	output, m := bootable(t, func(o *imagebuild.Options) { o.SecureBootKeys = enrolledKeys(t) })
	if m.Boots[1].SHA256["7"] == "" || m.Boots[1].SHA384["7"] == "" {
		t.Error("the manifest leaves register 7 out")
	}
	signed := filepath.Join(t.TempDir(), "signed.efi")
	cmd := exec.Command(sbsign, "--key", snakeoilKey(t), "--cert", "/usr/share/ovmf/PkKek-1-snakeoil.pem",
		"--output", signed, filepath.Join(output, imagebuild.UKIName))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sbsign: %v\n%s", err, text)
	}
	console := boot(t, secureFirmware, diskOf(t, signed))
	checkConsole(t, console)
	checkRegisters(t, console, m.Boots[1])
}

// bootable builds an image whose init says what it finds.
func bootable(t *testing.T, change func(*imagebuild.Options)) (output string, m *release.Manifest) {
	t.Helper()
	program := buildProgram(t, "./internal/testinit")
	output = t.TempDir()
	o := imagebuild.Options{
		Output: output, Version: "1.2.3", Epoch: 4, Agent: program, Toolshed: program, Cache: kernelCache(t),
	}
	change(&o)
	m, err := imagebuild.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return output, m
}

// diskOf lays out a disk with another image on it.
func diskOf(t *testing.T, image string) string {
	t.Helper()
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), imagebuild.DiskName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(disk.Size); err != nil {
		t.Fatal(err)
	}
	if err := disk.Write(f, []disk.File{{Path: "EFI/BOOT/BOOTX64.EFI", Data: data}}); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// snakeoilKey is the private key that Debian publishes with its firmware for
// tests, without the password that it publishes too.
func snakeoilKey(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snakeoil.key")
	cmd := exec.Command("openssl", "pkey", "-in", "/usr/share/ovmf/PkKek-1-snakeoil.key", "-passin", "pass:snakeoil", "-out", file)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, text)
	}
	return file
}

// checkRegisters compares what the manifest expects, and what must hold of the
// registers that no release fixes.
func checkRegisters(t *testing.T, console []string, want release.Boot) {
	t.Helper()
	seen := registersOn(console)
	for bank, values := range map[string]map[string]string{"sha256": want.SHA256, "sha384": want.SHA384} {
		for register, value := range values {
			if got := seen[bank+" "+register]; got != value {
				t.Errorf("%s register %s: machine has %s, manifest %s", bank, register, got, value)
			}
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
	var files, alone []string
	var platform string
	modules := 0
	for _, line := range console {
		switch {
		case strings.HasPrefix(line, "FAILED"):
			t.Error(line)
		case strings.HasPrefix(line, "MODULE "):
			modules++
			// What makes ciphers faster is for processors that can; this one has
			// no AEGIS.
			if !strings.HasSuffix(line, "<nil>") && line != "MODULE aegis128_aesni.ko no such device" {
				t.Error(line)
			}
		case strings.HasPrefix(line, "ALONE "):
			alone = append(alone, line)
		case strings.HasPrefix(line, "PLATFORM "):
			platform = line
		case strings.HasPrefix(line, "FILE "), strings.HasPrefix(line, "UPTIME "):
			t.Log(line)
			files = append(files, line)
		}
	}
	// The drivers of confidential VMs find no device; what they need loads, and so
	// does a driver that waits for its cards.
	for _, want := range []string{"ALONE configfs.ko <nil>", "ALONE tsm.ko <nil>", "ALONE ena.ko <nil>"} {
		if !slices.Contains(alone, want) {
			t.Errorf("modules for some machines: %q, want %q", alone, want)
		}
	}
	// TPM_RC_BAD_AUTH of the first session: the firmware has set one.
	if platform != "PLATFORM 0x9a2" {
		t.Errorf("the platform hierarchy: %q", platform)
	}
	if modules < 8 {
		t.Errorf("%d modules were loaded", modules)
	}
	all := strings.Join(files, "\n")
	for _, want := range []string{
		`/etc/shed/release.json {"version":"1.2.3","epoch":4`,
		"module.sig_enforce=1", "[confidentiality]", "/proc/sys/kernel/tainted 0",
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

// enrolledKeys takes Secure Boot's variables out of Debian's firmware for
// tests, as .esl files.
func enrolledKeys(t *testing.T) string {
	t.Helper()
	store, err := os.ReadFile(secureFirmware.vars)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// AUTHENTICATED_VARIABLE_HEADER of EDK II: state at 2, sizes of name and
	// data at 36 and 40, name at 60; records begin at multiples of four.
	const head, valid = 60, 0x3f
	at := bytes.Index(store, []byte{0xaa, 0x55, valid})
	for at >= 0 && at+head < len(store) && store[at] == 0xaa && store[at+1] == 0x55 {
		name := int(binary.LittleEndian.Uint32(store[at+36:]))
		data := int(binary.LittleEndian.Uint32(store[at+40:]))
		text := strings.ReplaceAll(string(store[at+head:at+head+name]), "\x00", "")
		if store[at+2] == valid && slices.Contains([]string{"PK", "KEK", "db", "dbx"}, text) {
			if err := os.WriteFile(filepath.Join(dir, text+".esl"), store[at+head+name:at+head+name+data], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		at = (at + head + name + data + 3) &^ 3
	}
	return dir
}
