package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/providers/aws/uefidata"
)

// cloudRelease is a release for a cloud's firmware, with Secure Boot's keys
// where there are some, and systemd's stub in the place of the kernel: it is as
// much of an EFI program.
func cloudRelease(t *testing.T, keys string) string {
	t.Helper()
	stub, err := os.ReadFile(imagebuild.DefaultStub)
	if err != nil {
		t.Skipf("no systemd-stub: it is in the package systemd-boot-efi: %v", err)
	}
	tree, dir := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		file := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	var builtin strings.Builder
	for _, m := range []string{
		"virtio_blk", "virtio_net", "virtio-rng", "button", "evdev", "dm-mod", "dm-integrity", "aegis128", "aegis128-aesni",
		"dm-crypt", "crc32c-intel", "sha256-ssse3", "btrfs", "sev-guest", "tdx-guest", "ena", "efivarfs", "dm-verity", "erofs",
	} {
		builtin.WriteString("kernel/" + m + ".ko\n")
	}
	write("boot/vmlinuz-test", string(stub))
	write("lib/modules/test/modules.builtin", builtin.String())
	write("lib/modules/test/kernel/x.ko", "unused")
	write("DEBIAN/control", "Package: stand-in\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n")
	kernel, program := filepath.Join(dir, "kernel.deb"), filepath.Join(dir, "program")
	if text, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, kernel).CombinedOutput(); err != nil {
		t.Skipf("no package: %v\n%s", err, text)
	}
	if err := os.WriteFile(program, []byte("stands in for a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(dir, "release")
	_, err = imagebuild.Build(t.Context(), imagebuild.Options{
		Output: output, Version: "1.2.3", Epoch: 1, Agent: program, Toolshed: program, KernelPackage: kernel, SecureBootKeys: keys, Cache: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// signImage signs a release for Secure Boot, where there are keys.
func signImage(t *testing.T, release, keys string) {
	t.Helper()
	if keys == "" {
		return
	}
	signer, err := secureboot.ReadSigner(keys)
	if err != nil {
		t.Fatal(err)
	}
	if err := imagebuild.SignImage(release, "", signer, nil); err != nil {
		t.Fatal(err)
	}
}

// run is a command line of the program's.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, complaint bytes.Buffer
	code = cli.Run(t.Context(), newRootCommand(), args, &out, &complaint)
	return code, out.String(), complaint.String()
}

// TestAMIShowsWhatAWSComputes holds the registers of an AMI against those that
// AWS's own program computes of the image and the keys, byte for byte.
func TestAMIShowsWhatAWSComputes(t *testing.T) {
	if testing.Short() {
		t.Skip("builds images")
	}
	nitro := os.Getenv("SHED_NITRO")
	if _, err := os.Stat(nitro); nitro == "" || err != nil {
		t.Skip("not tried: SHED_NITRO names no nitro-tpm-pcr-compute (make test-long)")
	}
	keys := t.TempDir()
	if _, err := secureboot.Generate(rand.Reader, keys); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]string{"with Secure Boot": keys, "without": ""} {
		built := cloudRelease(t, of)
		signImage(t, built, of)
		output := t.TempDir()
		if code, _, stderr := run(t, "image", "convert", built, "--to", "ami", "--output", output); code != 0 {
			t.Fatalf("%s: %s", name, stderr)
		}
		args := []string{"--image", filepath.Join(built, imagebuild.UKIName)}
		if of != "" {
			for _, list := range []string{"PK", "KEK", "db"} {
				args = append(args, "--"+list, filepath.Join(of, list+".esl"))
			}
		}
		want, err := exec.Command(nitro, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(output, "measurements.json"))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: ours %s, AWS's %s, %v", name, got, want, err)
		}
	}
}

// TestAMIRequest wants what aws ec2 register-image takes, with variables that
// hold the keys.
func TestAMIRequest(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an image")
	}
	keys := t.TempDir()
	if _, err := secureboot.Generate(rand.Reader, keys); err != nil {
		t.Fatal(err)
	}
	built, output := cloudRelease(t, keys), t.TempDir()
	if code, _, stderr := run(t, "image", "convert", built, "--to", "ami", "--output", output); code != cli.ExitFailed || !strings.Contains(stderr, "--secure-boot-keys") {
		t.Errorf("without a signature: %d, %s", code, stderr)
	}
	signImage(t, built, keys)
	if code, _, stderr := run(t, "image", "convert", built, "--to", "ami", "--output", output); code != 0 {
		t.Fatal(stderr)
	}
	text, err := os.ReadFile(filepath.Join(output, "register-image.json"))
	if err != nil {
		t.Fatal(err)
	}
	var request struct {
		Architecture, BootMode, TpmSupport, UefiData string
		BlockDeviceMappings                          []struct{ Ebs map[string]any }
	}
	if err := json.Unmarshal(text, &request); err != nil {
		t.Fatal(err)
	}
	if request.Architecture != "x86_64" || request.BootMode != "uefi" || request.TpmSupport != "v2.0" {
		t.Errorf("%s", text)
	}
	if _, there := request.BlockDeviceMappings[0].Ebs["SnapshotId"]; !there {
		t.Errorf("there is no SnapshotId to fill in: %s", text)
	}
	variables, err := uefidata.Decode(request.UefiData, nil)
	if err != nil {
		t.Fatal(err)
	}
	db, err := os.ReadFile(filepath.Join(keys, "db.esl"))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, v := range variables {
		found = found || v.Name == "db" && bytes.Equal(v.Data, db)
	}
	if !found {
		t.Error("the variables hold another db")
	}
	same(t, filepath.Join(built, imagebuild.DiskName), filepath.Join(output, imagebuild.DiskName))
	// A key that is not the one of the manifest is refused.
	if err := os.WriteFile(filepath.Join(built, "db.esl"), append(db, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run(t, "image", "convert", built, "--to", "ami", "--output", t.TempDir()); code != cli.ExitRefused || !strings.Contains(stderr, "db.esl has sha256") {
		t.Errorf("another db: %d, %s", code, stderr)
	}
}

func same(t *testing.T, a, b string) {
	t.Helper()
	x, errX := os.ReadFile(a)
	y, errY := os.ReadFile(b)
	if err := errors.Join(errX, errY); err != nil || !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ: %v", a, b, err)
	}
}

// TestConvertQcow2 has QEMU compare what is made of a release with its disk.
func TestConvertQcow2(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an image")
	}
	built := cloudRelease(t, "")
	file := filepath.Join(t.TempDir(), "shed.qcow2")
	code, stdout, stderr := run(t, "image", "convert", built, "--to", "qcow2", "--output", file, "--json")
	if code != 0 || stderr != "" || !strings.Contains(stdout, `"output":`) {
		t.Fatalf("%d, %s, %s", code, stdout, stderr)
	}
	disk := filepath.Join(built, imagebuild.DiskName)
	if out, err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk, file).CombinedOutput(); err != nil {
		t.Errorf("qemu-img compare: %v\n%s", err, out)
	}
	// One byte of the disk, and nothing is made of it.
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{0xff}, 4<<20)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(t.TempDir(), "shed.qcow2")
	if code, _, _ := run(t, "image", "convert", built, "--to", "qcow2", "--output", again); code != cli.ExitRefused {
		t.Errorf("another disk: exit code %d", code)
	}
	if _, err := os.Stat(again); err == nil {
		t.Error("something was made of a disk that is not the release's")
	}
}

// TestReadFullReadsWhatThereIs is for the end of a manifest, which is shorter
// than its cap.
func TestReadFullReadsWhatThereIs(t *testing.T) {
	b := make([]byte, release.MaxManifestBytes)
	if n, err := readFull(strings.NewReader("abc"), b); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := readFull(io.LimitReader(strings.NewReader(""), 1), b); n != 0 || err != nil {
		t.Errorf("nothing: %d, %v", n, err)
	}
}
