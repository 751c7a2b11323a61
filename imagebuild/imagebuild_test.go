package imagebuild_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/registers"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
)

// needHost skips where the host lacks what an image is made from.
func needHost(t *testing.T) {
	t.Helper()
	for file, debian := range map[string]string{
		imagebuild.DefaultStub: "systemd-boot-efi", imagebuild.DefaultMkfs: "btrfs-progs", "/usr/bin/dpkg-deb": "dpkg",
	} {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			t.Skipf("no %s: it is in the package %s", file, debian)
		}
	}
}

// unusedDriver is in a stand-in kernel and in no image's lists.
const unusedDriver = "loop"

// standInKernel is a kernel package with the stub as its kernel and every
// module built in, but for those that are left out: enough to build an image from,
// though not to boot one.
func standInKernel(t *testing.T, without ...string) string {
	t.Helper()
	stub, err := os.ReadFile(imagebuild.DefaultStub)
	if err != nil {
		t.Fatal(err)
	}
	var builtin strings.Builder
	for _, m := range []string{
		"virtio_blk", "virtio_net", "virtio-rng", "button", "evdev",
		"dm-mod", "dm-integrity", "aegis128", "aegis128-aesni", "dm-crypt", "crc32c-intel", "sha256-ssse3", "btrfs",
		"sev-guest", "tdx-guest", "ena", "efivarfs", "dm-verity", "erofs", unusedDriver,
	} {
		if !slices.Contains(without, m) {
			builtin.WriteString("kernel/" + m + ".ko\n")
		}
	}
	return pack(t, map[string][]byte{
		"boot/vmlinuz-6.12-test":                stub,
		"lib/modules/6.12-test/modules.builtin": []byte(builtin.String()),
		"lib/modules/6.12-test/kernel/x.ko":     []byte("unused"),
	})
}

// standInFirmware is a firmware package with words for its files.
func standInFirmware(t *testing.T) string {
	t.Helper()
	return pack(t, map[string][]byte{
		"usr/share/OVMF/OVMF_CODE_4M.fd": []byte("code"), "usr/share/OVMF/OVMF_VARS_4M.fd": []byte("variables"),
	})
}

// pack makes a Debian package.
func pack(t *testing.T, content map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	content["DEBIAN/control"] = []byte("Package: stand-in\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: none\n")
	for name, data := range content {
		file := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "package.deb")
	if text, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, text)
	}
	return out
}

func sampleOptions(t *testing.T) imagebuild.Options {
	t.Helper()
	needHost(t)
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("stands in for a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	return imagebuild.Options{
		Output: t.TempDir(), Version: "1.2.3", Epoch: 4,
		Agent: program, Toolshed: program, KernelPackage: standInKernel(t),
	}
}

func built(t *testing.T, o imagebuild.Options) *release.Manifest {
	t.Helper()
	m, err := imagebuild.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func contents(t *testing.T, dir string) map[string]attest.Digest {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]attest.Digest{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sums[e.Name()] = attest.Sum(b)
	}
	return sums
}

func TestSameInputsSameBytes(t *testing.T) {
	o := sampleOptions(t)
	built(t, o)
	again := o
	again.Output = t.TempDir()
	again.Agent = filepath.Join(t.TempDir(), "another-name")
	copyFile(t, o.Agent, again.Agent)
	built(t, again)

	first, second := contents(t, o.Output), contents(t, again.Output)
	for _, name := range []string{imagebuild.DiskName, imagebuild.UKIName, imagebuild.ManifestName} {
		if first[name].IsZero() || first[name] != second[name] {
			t.Errorf("%s: %s, then %s", name, first[name], second[name])
		}
	}
	if len(first) != 3 {
		t.Errorf("the output holds %d files", len(first))
	}
}

func TestManifestDescribesTheFiles(t *testing.T) {
	o := sampleOptions(t)
	m := built(t, o)
	sums := contents(t, o.Output)
	if m.Disk.SHA256 != sums[imagebuild.DiskName] || m.UKI.SHA256 != sums[imagebuild.UKIName] {
		t.Errorf("disk %s, image %s", m.Disk.SHA256, m.UKI.SHA256)
	}
	b, err := os.ReadFile(filepath.Join(o.Output, imagebuild.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := release.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Version != "1.2.3" || parsed.Epoch != 4 || len(parsed.Boots) != 2 {
		t.Errorf("manifest: %+v", parsed)
	}
	for _, name := range []string{"systemd-stub", "init", "bin/toolshed", "linux.deb", "sbin/mkfs.btrfs"} {
		if !slices.ContainsFunc(parsed.Inputs, func(in release.Input) bool { return in.Name == name }) {
			t.Errorf("input %s is not in the manifest", name)
		}
	}
	if dir, err := os.Getwd(); err != nil || bytes.Contains(b, []byte(dir)) {
		t.Errorf("the manifest names a directory of this host (%v)", err)
	}
}

// TestEveryInputCounts changes one input at a time and wants another image.
func TestEveryInputCounts(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	base := sampleOptions(t)
	want := built(t, base).UKI.SHA256
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("stands in for another program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*imagebuild.Options){
		"version":  func(o *imagebuild.Options) { o.Version = "1.2.4" },
		"epoch":    func(o *imagebuild.Options) { o.Epoch++ },
		"agent":    func(o *imagebuild.Options) { o.Agent = other },
		"toolshed": func(o *imagebuild.Options) { o.Toolshed = other },
	} {
		o := base
		o.Output = t.TempDir()
		change(&o)
		if built(t, o).UKI.SHA256 == want {
			t.Errorf("another %s gives the same image", name)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	base := sampleOptions(t)
	var missing *imagebuild.MissingError
	for name, c := range map[string]struct {
		change func(*imagebuild.Options)
		want   func(error) bool
	}{
		"no output":    {func(o *imagebuild.Options) { o.Output = "" }, is(imagebuild.ErrOptions)},
		"no epoch":     {func(o *imagebuild.Options) { o.Epoch = 0 }, is(imagebuild.ErrOptions)},
		"bad version":  {func(o *imagebuild.Options) { o.Version = "one" }, is(imagebuild.ErrOptions)},
		"no kernel":    {func(o *imagebuild.Options) { o.KernelPackage = "" }, is(imagebuild.ErrOptions)},
		"absent agent": {func(o *imagebuild.Options) { o.Agent = "absent" }, is(fs.ErrNotExist)},
		"absent stub": {func(o *imagebuild.Options) { o.Stub = "absent" },
			func(err error) bool { return errors.As(err, &missing) && missing.Package == "systemd-boot-efi" }},
		"absent mkfs": {func(o *imagebuild.Options) { o.Mkfs = "absent" },
			func(err error) bool { return errors.As(err, &missing) && missing.Package == "btrfs-progs" }},
	} {
		o := base
		o.Output = filepath.Join(t.TempDir(), "output")
		c.change(&o)
		if _, err := imagebuild.Build(t.Context(), o); !c.want(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(o.Output, imagebuild.ManifestName)); err == nil && o.Output != "" {
			t.Errorf("%s: a manifest was written", name)
		}
	}
}

func is(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) }
}

// TestFsckFindsItClean has the file system's own checker look at the partition
// of a built disk.
func TestFsckFindsItClean(t *testing.T) {
	fsck := "/usr/sbin/fsck.fat"
	if _, err := os.Stat(fsck); err != nil {
		t.Skipf("no %s: it is in the package dosfstools", fsck)
	}
	o := sampleOptions(t)
	built(t, o)
	image, err := diskfs.Open(filepath.Join(o.Output, imagebuild.DiskName), diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	table, err := image.GetPartitionTable()
	if err != nil {
		t.Fatal(err)
	}
	partition := filepath.Join(t.TempDir(), "esp.raw")
	f, err := os.Create(partition)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := table.GetPartitions()[0].ReadContents(image.Backend, f); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(fsck, "-n", "-v", partition).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
}

// TestUnpredictableIsRefusedFirst wants nothing fetched or made for an image
// whose registers cannot be predicted.
func TestUnpredictableIsRefusedFirst(t *testing.T) {
	o := sampleOptions(t)
	stub, err := os.ReadFile(imagebuild.DefaultStub)
	if err != nil {
		t.Fatal(err)
	}
	later := filepath.Join(t.TempDir(), "later.stub")
	version := regexp.MustCompile(`systemd-stub [0-9]{3}`)
	if err := os.WriteFile(later, version.ReplaceAll(stub, []byte("systemd-stub 258")), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := t.TempDir()
	for _, name := range []string{"PK.esl", "KEK.esl", "db.esl"} {
		if err := os.WriteFile(filepath.Join(keys, name), []byte("no signature list"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change func(*imagebuild.Options)
		want   error
	}{
		"stub 258":     {func(o *imagebuild.Options) { o.Stub = later }, registers.ErrUnknown},
		"strange keys": {func(o *imagebuild.Options) { o.SecureBootKeys = keys }, secureboot.ErrKeys},
	} {
		o := o
		c.change(&o)
		var steps []string
		o.Progress = func(step string) { steps = append(steps, step) }
		if _, err := imagebuild.Build(t.Context(), o); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if len(steps) != 1 {
			t.Errorf("%s: refused after %q", name, steps)
		}
	}
}

// TestNoStaleManifest cuts a second build short after it replaced the image.
func TestNoStaleManifest(t *testing.T) {
	o := sampleOptions(t)
	built(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	o.Version = "1.2.4"
	o.Progress = func(step string) {
		if step == "compute registers" {
			cancel()
		}
	}
	if _, err := imagebuild.Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Output, imagebuild.ManifestName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the manifest of the first build stands beside the image of the second: %v", err)
	}
}

func TestBuildStopsWhenAsked(t *testing.T) {
	o := sampleOptions(t)
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = func(step string) {
		if step == "make initrd" {
			cancel()
		}
	}
	if _, err := imagebuild.Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
