package imagebuild_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/secureboot"
	"github.com/toolshed-cloud/shed/imagebuild/uki"
)

// ownKeys makes a directory of keys and who signs with them.
func ownKeys(t *testing.T) (dir string, signer *secureboot.Signer) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "keys")
	if _, err := secureboot.Generate(rand.Reader, dir); err != nil {
		t.Fatal(err)
	}
	signer, err := secureboot.ReadSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, signer
}

// builtWithKeys builds a release for keys of its own, which nothing has signed yet.
func builtWithKeys(t *testing.T) (o imagebuild.Options, signer *secureboot.Signer) {
	t.Helper()
	o = sampleOptions(t)
	o.SecureBootKeys, signer = ownKeys(t)
	built(t, o)
	return o, signer
}

func manifestIn(t *testing.T, dir string) *release.Manifest {
	t.Helper()
	m, err := release.ParseManifest(contentOf(t, filepath.Join(dir, imagebuild.ManifestName)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func contentOf(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The signature is a file, attached to the image and to the disk, that changes no
// register; a rebuild attaches it again.
func TestSignedReleaseIsRebuilt(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o := sampleOptions(t)
	o.Archive = filepath.Join(t.TempDir(), "archive")
	var signer *secureboot.Signer
	o.SecureBootKeys, signer = ownKeys(t)
	unsigned := built(t, o)
	bare := contentOf(t, filepath.Join(o.Output, imagebuild.UKIName))
	for range 2 {
		if err := imagebuild.SignImage(o.Output, "", signer, nil); err != nil {
			t.Fatal(err)
		}
	}
	m := manifestIn(t, o.Output)
	signature := filepath.Join(o.Output, imagebuild.SignatureName)
	if in := input(t, m, imagebuild.SignatureName); in.SHA256 != attest.Sum(contentOf(t, signature)) {
		t.Errorf("the manifest has another signature: %+v", in)
	}
	signed := contentOf(t, filepath.Join(o.Output, imagebuild.UKIName))
	if back, err := uki.Detach(signed); err != nil || !bytes.Equal(back, bare) || bytes.Equal(signed, bare) {
		t.Errorf("the image without its signature is another, %v", err)
	}
	for n := range m.Boots {
		if m.Boots[n].SHA256["4"] != unsigned.Boots[n].SHA256["4"] || m.Boots[n].SHA256["7"] != unsigned.Boots[n].SHA256["7"] {
			t.Errorf("signing changed the registers of %+v", m.Boots[n])
		}
	}
	r := mustRebuild(t, o.Output, o.Archive)
	if !r.Same || !slices.Equal(r.Compared, []string{imagebuild.UKIName, imagebuild.DiskName}) {
		t.Errorf("with the signature beside the manifest: %+v", r)
	}
	if err := imagebuild.SignImage(o.Output, o.Archive, signer, nil); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if _, err := imagebuild.Rebuild(t.Context(), imagebuild.RebuildOptions{Release: o.Output, Inputs: o.Archive, Output: again}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(contentOf(t, filepath.Join(again, imagebuild.SignatureName)), contentOf(t, signature)) {
		t.Error("the rebuilt release has another signature beside it")
	}
	if r = mustRebuild(t, filepath.Join(o.Output, imagebuild.ManifestName), o.Archive); !r.Same {
		t.Errorf("with the signature in the archive: %+v", r)
	}
	if err := os.Remove(filepath.Join(o.Archive, attest.Sum(contentOf(t, signature)).String())); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(signature, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	var wrong *imagebuild.InputsError
	if _, err := rebuild(t, o.Output, o.Archive); !errors.As(err, &wrong) || !slices.Equal(wrong.Changed, []string{imagebuild.SignatureName}) {
		t.Errorf("another signature: %v", err)
	}
}

func TestSigningOnAFullDiskLosesNothing(t *testing.T) {
	o := sampleOptions(t)
	o.Output = t.TempDir()
	if err := unix.Mount("tmpfs", o.Output, "tmpfs", 0, "size=1g"); err != nil {
		t.Skipf("a file system that can be filled needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(o.Output, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	resize := func(to string) {
		t.Helper()
		if err := unix.Mount("tmpfs", o.Output, "tmpfs", unix.MS_REMOUNT, "size="+to); err != nil {
			t.Fatal(err)
		}
	}
	var signer *secureboot.Signer
	o.SecureBootKeys, signer = ownKeys(t)
	built(t, o)
	before := contents(t, o.Output)
	var s unix.Statfs_t
	if err := unix.Statfs(o.Output, &s); err != nil {
		t.Fatal(err)
	}
	used := (int64(s.Blocks) - int64(s.Bfree)) * s.Bsize
	// Room for the signature and not for the image.
	resize(strconv.FormatInt(used+64<<10, 10))
	if err := imagebuild.SignImage(o.Output, "", signer, nil); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("on a full disk: %v", err)
	}
	if after := contents(t, o.Output); !maps.Equal(after, before) {
		t.Errorf("the release has changed: %v, before %v", after, before)
	}
	resize("1g")
	if err := imagebuild.SignImage(o.Output, "", signer, nil); err != nil {
		t.Errorf("with room again: %v", err)
	}
	manifestIn(t, o.Output)
}

// TestSigningThatIsCutOffIsTakenUp has it end while it takes the release's place: a
// directory is where a file is to go.
func TestSigningThatIsCutOffIsTakenUp(t *testing.T) {
	o, signer := builtWithKeys(t)
	obstacle := filepath.Join(o.Output, imagebuild.SignatureName)
	if err := os.Mkdir(obstacle, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := imagebuild.SignImage(o.Output, "", signer, nil); !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EEXIST) {
		t.Fatalf("with a directory in its way: %v", err)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := imagebuild.SignImage(o.Output, "", signer, nil); err != nil {
		t.Fatal(err)
	}
	cutOff := contents(t, o.Output)
	built(t, o)
	if err := imagebuild.SignImage(o.Output, "", signer, nil); err != nil {
		t.Fatal(err)
	}
	if want := contents(t, o.Output); !maps.Equal(cutOff, want) {
		t.Errorf("taken up it is %v, want %v", cutOff, want)
	}
}

func TestSignatureOfAnotherManifestGoes(t *testing.T) {
	o, signer := builtWithKeys(t)
	bundle := filepath.Join(o.Output, imagebuild.BundleName)
	sign := func() error {
		t.Helper()
		if err := os.WriteFile(bundle, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := imagebuild.SignImage(o.Output, "", signer, nil); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(bundle)
		return err
	}
	if err := sign(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("that of the manifest without the image's signature: %v", err)
	}
	if err := sign(); err != nil {
		t.Errorf("that of the same manifest: %v", err)
	}
}

func TestOnlyTheReleasesKeySigns(t *testing.T) {
	o := sampleOptions(t)
	dir, signer := ownKeys(t)
	built(t, o)
	if err := imagebuild.SignImage(o.Output, "", signer, nil); !errors.Is(err, imagebuild.ErrSigning) || !strings.Contains(fmt.Sprint(err), "without keys") {
		t.Errorf("a release without keys: %v", err)
	}
	o.SecureBootKeys = dir
	built(t, o)
	_, stranger := ownKeys(t)
	if err := imagebuild.SignImage(o.Output, "", stranger, nil); !errors.Is(err, imagebuild.ErrSigning) || !strings.Contains(fmt.Sprint(err), "another db.esl") {
		t.Errorf("another's key: %v", err)
	}
	image := filepath.Join(o.Output, imagebuild.UKIName)
	altered := contentOf(t, image)
	altered[len(altered)-1] ^= 1
	if err := os.WriteFile(image, altered, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := imagebuild.SignImage(o.Output, "", signer, nil); !errors.Is(err, imagebuild.ErrSigning) || !strings.Contains(fmt.Sprint(err), "not the one whose digest") {
		t.Errorf("an altered image: %v", err)
	}
	if err := imagebuild.SignImage(t.TempDir(), "", signer, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no release: %v", err)
	}
}

// A release whose machines would refuse its image is not given out.
func TestUnsignedImageIsNoRelease(t *testing.T) {
	m := &release.Manifest{Firmware: &release.Firmware{SecureBoot: true}}
	if err := imagebuild.CheckSigned(m); !errors.Is(err, imagebuild.ErrSigning) {
		t.Errorf("unsigned: %v", err)
	}
	m.Inputs = []release.Input{{Name: imagebuild.SignatureName}}
	if err := imagebuild.CheckSigned(m); err != nil {
		t.Error(err)
	}
	m.Firmware.SecureBoot, m.Inputs = false, nil
	if err := imagebuild.CheckSigned(m); err != nil {
		t.Error(err)
	}
}

// Another dbx, and another db, is another register 7, and nothing else is.
func TestAnotherListIsAnotherRegister(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o := sampleOptions(t)
	o.SecureBootKeys, _ = ownKeys(t)
	before := built(t, o)
	if err := secureboot.Revoke(o.SecureBootKeys, contentOf(t, filepath.Join(o.Output, imagebuild.UKIName))); err != nil {
		t.Fatal(err)
	}
	revoked := built(t, o)
	for _, name := range []string{"db.key", "db.crt", "db.esl"} {
		if err := os.Remove(filepath.Join(o.SecureBootKeys, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := secureboot.Generate(rand.Reader, o.SecureBootKeys); err != nil {
		t.Fatal(err)
	}
	renewed := built(t, o)
	sevens := map[string]bool{}
	for _, m := range []*release.Manifest{before, revoked, renewed} {
		sevens[m.Boots[1].SHA256["7"]] = true
		for register, value := range before.Boots[1].SHA256 {
			if register != "7" && m.Boots[1].SHA256[register] != value {
				t.Errorf("register %s has changed", register)
			}
		}
		if m.Boots[0].SHA256["7"] != before.Boots[0].SHA256["7"] {
			t.Error("register 7 with Secure Boot off has changed")
		}
	}
	if len(sevens) != 3 {
		t.Errorf("register 7 has %d values, want 3", len(sevens))
	}
}

// secondKeys are keys whose db has two certificates, the second of which signs.
func secondKeys(t *testing.T) (dir string, signer *secureboot.Signer) {
	t.Helper()
	dir, _ = ownKeys(t)
	other, _ := ownKeys(t)
	if err := secureboot.Trust(dir, filepath.Join(other, "db.crt")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"db.crt", "db.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), contentOf(t, filepath.Join(other, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := secureboot.ReadSigner(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, signer
}

// TestBootWithOwnKeys boots a release of ours with Secure Boot on, by the second
// certificate of db, and with the keys left out of the variables, and holds each
// against its own prediction: registers 4 and 7 differ. With the image's hash in dbx
// the firmware refuses it.
func TestBootWithOwnKeys(t *testing.T) {
	needVM(t)
	keys, signer := secondKeys(t)
	output, _ := bootable(t, func(o *imagebuild.Options) {
		o.SecureBootKeys, o.Shapes = keys, append(o.Shapes, sampleShape)
	})
	if err := imagebuild.SignImage(output, "", signer, nil); err != nil {
		t.Fatal(err)
	}
	m := manifestIn(t, output)
	if !m.SecureBootOnly() || m.Boots[0].SHA256["4"] == m.Boots[1].SHA256["4"] {
		t.Fatalf("the manifest has no Secure Boot: %+v", m)
	}
	variables := filepath.Join(t.TempDir(), "vars.fd")
	copyFile(t, filepath.Join(output, imagebuild.VariablesName), variables)
	want := m.Boots[1]
	for register, value := range m.Firmware.Shapes[0].SHA256 {
		want.SHA256[register] = value
	}
	checkRegisters(t, onBoard(t, true, output, variables, "1M"), want)

	copyFile(t, plainFirmware.vars, variables)
	checkRegisters(t, onBoard(t, true, output, variables, "1M"), m.Boots[0])

	if err := secureboot.Revoke(keys, contentOf(t, filepath.Join(output, imagebuild.UKIName))); err != nil {
		t.Fatal(err)
	}
	enrolled, err := secureboot.Read(keys)
	if err != nil {
		t.Fatal(err)
	}
	store, err := enrolled.Enroll(contentOf(t, plainFirmware.vars))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(variables, store, 0o600); err != nil {
		t.Fatal(err)
	}
	console := startUntil(t, "Access Denied", boardArguments(true, output, variables, "1M"))
	if seen := registersOn(console); len(seen) > 0 {
		t.Errorf("a revoked image runs: %v", seen)
	}
}
