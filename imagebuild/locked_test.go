package imagebuild_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/initrd"
	"github.com/toolshed-cloud/shed/imagebuild/lock"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
)

// locked puts a package into the archive and names it as a lock does.
func locked(t *testing.T, archive, name string, use lock.Use, content map[string][]byte) lock.Package {
	t.Helper()
	p := lock.Package{Name: name, Version: "252", Architecture: "amd64", Suite: "bookworm", Use: use}
	for path, data := range content {
		p.Files = append(p.Files, lock.File{Path: path, SHA256: attest.Sum(data)})
	}
	slices.SortFunc(p.Files, func(a, b lock.File) int { return strings.Compare(a.Path, b.Path) })
	file := pack(t, content)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p.SHA256, p.Bytes = attest.Sum(data), int64(len(data))
	copyFile(t, file, filepath.Join(archive, p.SHA256.String()))
	return p
}

// unpacked are the files that a stand-in package has, as locked wants them.
func unpacked(t *testing.T, file string, want ...string) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "-x", file, dir).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	content := map[string][]byte{}
	for _, name := range want {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		content[name] = data
	}
	return content
}

// lockedOptions are of an image whose packages are all in an archive: this
// host's stub, mkfs.btrfs and libraries, and a stand-in for the kernel.
func lockedOptions(t *testing.T) imagebuild.Options {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles a program and builds images")
	}
	o := sampleOptions(t)
	o.Agent = buildProgram(t, "./internal/testinit")
	o.Toolshed, o.Archive, o.Cache = o.Agent, t.TempDir(), t.TempDir()
	read := func(file string) []byte {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	libraries, err := initrd.Libraries("", imagebuild.DefaultMkfs)
	if err != nil {
		t.Fatal(err)
	}
	ofLibraries := map[string][]byte{}
	for _, l := range libraries {
		ofLibraries[strings.TrimPrefix(l.Path, "/")] = l.Data
	}
	kernel := unpacked(t, o.KernelPackage, "boot/vmlinuz-6.12-test", "lib/modules/6.12-test/modules.builtin", "lib/modules/6.12-test/kernel/x.ko")
	o.KernelPackage = ""
	o.Lock = &lock.Lock{Schema: lock.Schema, Go: runtime.Version(), Architectures: []lock.Architecture{{Name: "amd64", Packages: []lock.Package{
		locked(t, o.Archive, "btrfs-progs", lock.Files, map[string][]byte{"sbin/mkfs.btrfs": read(imagebuild.DefaultMkfs)}),
		locked(t, o.Archive, "libraries", lock.Files, ofLibraries),
		locked(t, o.Archive, "linux-image", lock.Kernel, kernel),
		locked(t, o.Archive, "ovmf", lock.Firmware, map[string][]byte{"usr/share/OVMF/OVMF_CODE_4M.fd": []byte("code"), "usr/share/OVMF/OVMF_VARS_4M.fd": []byte("variables")}),
		locked(t, o.Archive, "systemd-boot-efi", lock.Files, map[string][]byte{"usr/lib/systemd/boot/efi/linuxx64.efi.stub": read(imagebuild.DefaultStub)}),
	}}}}
	return o
}

// lockedBuild is what such a build in a process of its own is told.
type lockedBuild struct {
	Version                                 string
	Epoch                                   uint64
	Lock                                    *lock.Lock
	Output, Agent, Toolshed, Archive, Cache string
}

// buildAgain names the options of a build in a process of its own.
const buildAgain = "SHED_TEST_BUILD_AGAIN"

// TestBuildAgain is no test: TestSameLockSameBytes runs it as somebody else.
func TestBuildAgain(t *testing.T) {
	file := os.Getenv(buildAgain)
	if file == "" {
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b lockedBuild
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	built(t, imagebuild.Options{
		Version: b.Version, Epoch: b.Epoch, Lock: b.Lock,
		Output: b.Output, Agent: b.Agent, Toolshed: b.Toolshed, Archive: b.Archive, Cache: b.Cache,
	})
}

// TestSameLockSameBytes builds an image twice: the second time as another user
// with another umask, in other directories, of files with other names and
// times, in another zone and locale.
func TestSameLockSameBytes(t *testing.T) {
	o := lockedOptions(t)
	built(t, o)
	first := contents(t, o.Output)
	// A test's own directories are for nobody else.
	elsewhere, err := os.MkdirTemp("", "elsewhere-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(elsewhere) })
	again := lockedBuild{
		Version: o.Version, Epoch: o.Epoch, Lock: o.Lock, Output: filepath.Join(elsewhere, "o", "u", "t"),
		Agent: filepath.Join(elsewhere, "first-program"), Toolshed: filepath.Join(elsewhere, "second"),
		Archive: filepath.Join(elsewhere, "kept"), Cache: filepath.Join(elsewhere, "cached"),
	}
	copyFile(t, o.Agent, again.Agent)
	copyFile(t, o.Toolshed, again.Toolshed)
	if err := os.CopyFS(again.Archive, os.DirFS(o.Archive)); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	copyFile(t, self, filepath.Join(elsewhere, "self"))
	text, err := json.Marshal(again)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(elsewhere, "options.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "umask 077; exec ./self -test.run '^TestBuildAgain$'")
	cmd.Dir = elsewhere
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + elsewhere, "TMPDIR=" + elsewhere, "TZ=Pacific/Chatham", "LC_ALL=C.UTF-8",
		buildAgain + "=options.json"}
	giveAway(t, cmd, elsewhere)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	second := contents(t, again.Output)
	for _, name := range []string{"disk.raw", "uki.efi", "manifest.json", "image.lock", "sbom.cdx.json", "provenance.json"} {
		if first[name].IsZero() || first[name] != second[name] {
			t.Errorf("%s: %s, then %s", name, first[name], second[name])
		}
	}
}

// giveAway makes the files somebody else's, old, and has cmd run as them. Who is
// not root has nobody else to be, and stays who they are.
func giveAway(t *testing.T, cmd *exec.Cmd, dir string) {
	t.Helper()
	const nobody = 65534
	long := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && os.Getuid() == 0 {
			err = os.Chown(path, nobody, nobody)
		}
		return errors.Join(err, os.Chmod(path, 0o755), os.Chtimes(path, long, long))
	})
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}

// TestLockIsHeld changes one thing at a time that the lock names, and wants it
// named with both digests.
func TestLockIsHeld(t *testing.T) {
	base := lockedOptions(t)
	built(t, base)
	packages := base.Lock.Architectures[0].Packages
	other := filepath.Join(t.TempDir(), "other")
	stub, err := os.ReadFile(imagebuild.DefaultStub)
	if err != nil {
		t.Fatal(err)
	}
	stub[len(stub)-1] ^= 1
	if err := os.WriteFile(other, stub, 0o600); err != nil {
		t.Fatal(err)
	}
	flip := func(file string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)/2] ^= 1
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { data[len(data)/2] ^= 1; os.WriteFile(file, data, 0o600) })
		}
	}
	roots, err := filepath.Glob(filepath.Join(base.Cache, "root-*"))
	if err != nil || len(roots) != 1 {
		t.Fatalf("%v, %v", roots, err)
	}
	anotherGo := *base.Lock
	anotherGo.Go = "go1.2.3"
	anotherSource := *base.Lock
	anotherSource.Source = attest.Digest{1}
	for name, c := range map[string]struct {
		change func(*imagebuild.Options)
		before func(*testing.T)
		names  string
	}{
		"a stub that was named":     {change: func(o *imagebuild.Options) { o.Stub = other }, names: "systemd-stub does not match the lock: it is sha256 " + attest.Sum(stub).String()},
		"a byte of a package":       {before: flip(filepath.Join(base.Archive, packages[0].SHA256.String())), names: packages[0].SHA256.String()},
		"a byte that was unpacked":  {before: flip(filepath.Join(roots[0], "sbin/mkfs.btrfs")), names: "sbin/mkfs.btrfs does not match the lock"},
		"a library's byte":          {before: flip(filepath.Join(roots[0], packages[1].Files[0].Path)), names: packages[1].Files[0].Path + " does not match the lock"},
		"another Go":                {change: func(o *imagebuild.Options) { o.Lock = &anotherGo }, names: "built by " + runtime.Version() + ", and the lock says built by go1.2.3"},
		"no Go":                     {change: func(o *imagebuild.Options) { o.Agent = other }, names: "init does not match the lock: it is no program of Go's"},
		"another source":            {change: func(o *imagebuild.Options) { o.Lock, o.Source = &anotherSource, ".." }, names: "the source in .. does not match the lock"},
		"another kernel, well made": {change: func(o *imagebuild.Options) { o.KernelPackage = standInKernel(t, unusedDriver) }, names: "linux.deb does not match the lock"},
	} {
		t.Run(name, func(t *testing.T) {
			o := base
			o.Output = t.TempDir()
			if c.change != nil {
				c.change(&o)
			}
			if c.before != nil {
				c.before(t)
			}
			_, err := imagebuild.Build(t.Context(), o)
			var mismatch *lock.MismatchError
			if !errors.As(err, &mismatch) || !strings.Contains(fmt.Sprint(err), c.names) {
				t.Errorf("got %v, want it to name %q", err, c.names)
			}
			if _, err := os.Stat(filepath.Join(o.Output, imagebuild.ManifestName)); err == nil {
				t.Error("a manifest was written")
			}
		})
	}
}

// TestRebuildComparesDocuments rebuilds a release that was built by a lock, and
// wants a flipped byte of each document named.
func TestRebuildComparesDocuments(t *testing.T) {
	o := lockedOptions(t)
	o.Source = ".."
	m := built(t, o)
	if m.Schema != release.SchemaDocuments || m.Documents == nil {
		t.Fatalf("schema %d, documents %+v", m.Schema, m.Documents)
	}
	r := mustRebuild(t, o.Output, o.Archive)
	if !r.Same || !slices.Contains(r.Compared, imagebuild.SBOMName) || !slices.Contains(r.Compared, imagebuild.ProvenanceName) {
		t.Errorf("%+v", r)
	}
	carried, err := os.ReadFile(filepath.Join(o.Output, imagebuild.LockName))
	if err != nil {
		t.Fatal(err)
	}
	l, err := lock.Parse(carried)
	if err != nil || l.Source.IsZero() {
		t.Errorf("the release's lock: %+v, %v", l, err)
	}
	// By that lock, the same source is taken and another is not.
	o.Lock, o.Output = l, t.TempDir()
	if again := built(t, o); again.Disk != m.Disk {
		t.Error("the release's own lock makes another disk")
	}
	for _, name := range []string{imagebuild.SBOMName, imagebuild.ProvenanceName} {
		file := filepath.Join(o.Output, name)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := len(data) / 2
		data[at] ^= 1
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if d := find(t, mustRebuild(t, o.Output, o.Archive), name, "the document"); d.Offset != int64(at) || d.Input != imagebuild.LockName {
			t.Errorf("%+v", d)
		}
	}
}

// TestSignedLockedReleaseIsRebuilt wants the provenance to be about the image
// with its signature, and a rebuild to say so too.
func TestSignedLockedReleaseIsRebuilt(t *testing.T) {
	o := lockedOptions(t)
	// It has machines revoke a program, of which they had none revoked.
	o.SecureBootKeysBefore, _ = ownKeys(t)
	o.SecureBootKeys = keysAfter(t, o.SecureBootKeysBefore, func(dir string) error {
		return secureboot.Revoke(dir, contentOf(t, imagebuild.DefaultStub))
	})
	bare := built(t, o)
	signer, err := secureboot.ReadSigner(o.SecureBootKeys)
	if err != nil {
		t.Fatal(err)
	}
	x := exchangeOf(t, o.SecureBootKeys)
	if err := imagebuild.SignImage(o.Output, o.Archive, signer, x); err != nil {
		t.Fatal(err)
	}
	if r := mustRebuild(t, o.Output, o.Archive); !r.Same || !slices.Contains(r.Compared, imagebuild.ProvenanceName) {
		t.Errorf("%+v", r)
	}
	said, err := os.ReadFile(filepath.Join(o.Output, imagebuild.ProvenanceName))
	if err != nil || strings.Contains(string(said), bare.UKI.SHA256.String()) {
		t.Errorf("the provenance is about the image without its signature: %v", err)
	}
	// One that is not the release's is not made into another.
	if err := os.WriteFile(filepath.Join(o.Output, imagebuild.ProvenanceName), append(said, ' '), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := imagebuild.SignImage(o.Output, o.Archive, signer, x); !errors.Is(err, imagebuild.ErrSigning) {
		t.Errorf("another provenance: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Output, imagebuild.ManifestName)); err != nil {
		t.Errorf("the release that was refused is not as it was: %v", err)
	}
}
