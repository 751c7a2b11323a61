package registers

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// The stub of the build host, and systemd's own calculator for register 11.
const (
	debianStub     = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	systemdMeasure = "/usr/lib/systemd/systemd-measure"
)

func readStub(t *testing.T) []byte {
	t.Helper()
	stub, err := os.ReadFile(debianStub)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("no %s: it is in the package systemd-boot-efi", debianStub)
	}
	if err != nil {
		t.Fatal(err)
	}
	return stub
}

// sampleImage has the stub itself as its kernel: an EFI program is all that
// the calculation asks of one.
func sampleImage(t *testing.T) (image []byte, sections map[string][]byte, version int) {
	t.Helper()
	stub := readStub(t)
	sections = map[string][]byte{
		".linux": stub, ".osrel": []byte("ID=shed\n"), ".cmdline": []byte("quiet splash"), ".initrd": []byte("not really"),
	}
	// Another order than the one they are measured in.
	image, err := uki.Assemble(stub, []uki.Section{
		{Name: ".cmdline", Data: sections[".cmdline"]}, {Name: ".initrd", Data: sections[".initrd"]},
		{Name: ".osrel", Data: sections[".osrel"]}, {Name: ".linux", Data: sections[".linux"]},
	})
	if err != nil {
		t.Fatal(err)
	}
	version, err = uki.StubVersion(stub)
	if err != nil {
		t.Fatal(err)
	}
	return image, sections, version
}

// TestRegister11AgreesWithSystemd holds register 11 in both banks against
// systemd's own calculation.
func TestRegister11AgreesWithSystemd(t *testing.T) {
	if _, err := os.Stat(systemdMeasure); err != nil {
		t.Skipf("no %s: it is in the package systemd", systemdMeasure)
	}
	image, sections, version := sampleImage(t)
	boot, err := Expect(Boot{UKI: image, StubVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	if version >= 254 {
		help, err := exec.Command(systemdMeasure, "--help").Output()
		if err != nil || !bytes.Contains(help, []byte("--sbat=")) {
			t.Skipf("%s is older than the stub and does not know .sbat (%v)", systemdMeasure, err)
		}
		all, err := uki.Sections(image)
		if err != nil {
			t.Fatal(err)
		}
		sections[".sbat"] = all[".sbat"]
	}
	dir := t.TempDir()
	args := []string{"calculate", "--bank=sha256", "--bank=sha384", "--phase="}
	for name, data := range sections {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--"+strings.TrimPrefix(name, ".")+"="+file)
	}
	out, err := exec.Command(systemdMeasure, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for bank, want := range map[string]string{"sha256": boot.SHA256["11"], "sha384": boot.SHA384["11"]} {
		if line := "11:" + bank + "=" + want; !bytes.Contains(out, []byte(line)) {
			t.Errorf("systemd-measure does not print %s:\n%s", line, out)
		}
	}
}

// TestRegister11OfEachStub has what systemd-measure 252.39, 254.26 and 257.13
// print for these sections, --phase= and both banks.
func TestRegister11OfEachStub(t *testing.T) {
	sections := map[string][]byte{
		".linux": []byte("a kernel"), ".osrel": []byte("ID=shed\n"), ".cmdline": []byte("quiet splash"),
		".initrd": []byte("not really"), ".sbat": []byte("sbat,1,a stub\n"),
	}
	for version, want := range map[int][2]string{
		252: {
			"3ab901c5d7dd570a5ab653775b17c43996b596680cd1750d66672ee5669497cc",
			"44d9b8525bcee3ec0cfa1bbedfafc8b89308343fa1fdc8b3d81e81a46646fd3687ee9cbcbca02ff8d33672cdab8c3a62",
		},
		254: {
			"f724b69b0c255e25cfdac38baefaf340ca93a67860714b353267f3e376fed7b3",
			"2489ff80ea49ac7fe51960a48f2df0f396a1394de4614d61be0a174a5d1a131777878938cad1c6289ad1765238dab073",
		},
		257: {
			"f724b69b0c255e25cfdac38baefaf340ca93a67860714b353267f3e376fed7b3",
			"2489ff80ea49ac7fe51960a48f2df0f396a1394de4614d61be0a174a5d1a131777878938cad1c6289ad1765238dab073",
		},
	} {
		for i, alg := range []crypto.Hash{crypto.SHA256, crypto.SHA384} {
			if got := stubRegister(alg, sections, version).String(); got != want[i] {
				t.Errorf("systemd-stub %d, %s: got %s, want %s", version, alg, got, want[i])
			}
		}
	}
}

// TestInitrdOfStub257 is the archive that a stub of that version was seen to
// add: a boot test holds it against the kernel's own measurement.
func TestInitrdOfStub257(t *testing.T) {
	sections := map[string][]byte{".initrd": []byte("initrd"), ".osrel": []byte("ID=shed\n")}
	if got := handedOver(sections, 256); string(got) != "initrd" {
		t.Errorf("256: got %q", got)
	}
	got := handedOver(sections, 257)
	archive, padded := bytes.CutPrefix(got, []byte("initrd\x00\x00"))
	if !padded {
		t.Fatalf("257: got %q", got)
	}
	entries, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || entries[0].Name != ".extra" || entries[1].Name != ".extra/os-release" || entries[1].FileSize != 8 {
		t.Errorf("257: got %v", entries)
	}
}

// TestRegister7WithoutKeys is the constant that OVMF and AAVMF show.
func TestRegister7WithoutKeys(t *testing.T) {
	const want = "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068"
	if got := noKeysRegister(crypto.SHA256); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestEachRegisterHasItsCause changes one part of the image at a time.
func TestEachRegisterHasItsCause(t *testing.T) {
	stub := readStub(t)
	expect := func(secureBoot bool, cmdline, initrd string, linux []byte) map[string]string {
		t.Helper()
		image, err := uki.Assemble(stub, []uki.Section{
			{Name: ".cmdline", Data: []byte(cmdline)}, {Name: ".initrd", Data: []byte(initrd)}, {Name: ".linux", Data: linux},
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := Expect(Boot{UKI: image, StubVersion: 252, SecureBoot: secureBoot})
		if err != nil {
			t.Fatal(err)
		}
		return b.SHA256
	}
	base := expect(false, "quiet", "initrd", stub)
	otherLinux := bytes.Replace(stub, []byte("systemd-stub"), []byte("another-stub"), 1)
	for name, c := range map[string]struct {
		got  map[string]string
		same string
	}{
		"command line": {expect(false, "quieter", "initrd", stub), "7"},
		"initrd":       {expect(false, "quiet", "jnitrd", stub), "7"},
		"kernel":       {expect(false, "quiet", "initrd", otherLinux), "7 9"},
		"secure boot":  {expect(true, "quiet", "initrd", stub), "9 11"},
	} {
		for _, register := range []string{"4", "7", "9", "11"} {
			want := strings.Contains(" "+c.same+" ", " "+register+" ")
			if got := c.got[register] == base[register]; got != want {
				t.Errorf("%s: register %s same: %t, want %t", name, register, got, want)
			}
		}
	}
}

func TestUnknownIsRefused(t *testing.T) {
	image, _, _ := sampleImage(t)
	bare := readStub(t)
	profile, err := uki.Assemble(image, []uki.Section{{Name: ".profile", Data: []byte("ID=another\n")}})
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]Boot{
		"old stub":    {UKI: image, StubVersion: 251},
		"new stub":    {UKI: image, StubVersion: 258},
		"no sections": {UKI: bare, StubVersion: 252},
		"a profile":   {UKI: profile, StubVersion: 257},
	} {
		if _, err := Expect(b); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Expect(Boot{UKI: []byte("hello"), StubVersion: 252}); !errors.Is(err, uki.ErrFormat) {
		t.Errorf("no program: got %v", err)
	}
}
