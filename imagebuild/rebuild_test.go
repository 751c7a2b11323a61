package imagebuild_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/imagebuild"
)

// archivedRelease is a small release with an archive of its inputs.
func archivedRelease(t *testing.T) (o imagebuild.Options, m *release.Manifest) {
	t.Helper()
	o = sampleOptions(t)
	o.Archive = filepath.Join(t.TempDir(), "archive")
	return o, built(t, o)
}

func rebuild(t *testing.T, name, archive string) (*imagebuild.Rebuilt, error) {
	t.Helper()
	return imagebuild.Rebuild(t.Context(), imagebuild.RebuildOptions{Release: name, Inputs: archive, Output: t.TempDir(), Cache: t.TempDir()})
}

func mustRebuild(t *testing.T, name, archive string) *imagebuild.Rebuilt {
	t.Helper()
	r, err := rebuild(t, name, archive)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// find is the difference in a file, of which there has to be one.
func find(t *testing.T, r *imagebuild.Rebuilt, file, where string) imagebuild.Difference {
	t.Helper()
	if r.Same {
		t.Error("it is said to be the same")
	}
	for _, d := range r.Differences {
		if d.File == file && strings.Contains(d.Where, where) {
			return d
		}
	}
	t.Errorf("no difference in %s at %q: %+v", file, where, r.Differences)
	return imagebuild.Difference{}
}

func TestRebuildIsTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o, m := archivedRelease(t)
	r := mustRebuild(t, o.Output, o.Archive)
	if !r.Same || r.Release != r.Rebuilt || len(r.Compared) != 2 || r.NotMeasured != "" {
		t.Errorf("%+v", r)
	}
	r = mustRebuild(t, filepath.Join(o.Output, imagebuild.ManifestName), o.Archive)
	if !r.Same || len(r.Compared) != 0 {
		t.Errorf("from the manifest alone: %+v", r)
	}
	entries, err := os.ReadDir(o.Archive)
	if err != nil {
		t.Fatal(err)
	}
	distinct := map[attest.Digest]bool{}
	for _, in := range m.Inputs {
		distinct[in.SHA256] = true
	}
	if len(entries) != len(distinct) {
		t.Errorf("the archive has %d files for %d distinct inputs", len(entries), len(distinct))
	}
}

func input(t *testing.T, m *release.Manifest, name string) release.Input {
	t.Helper()
	n := slices.IndexFunc(m.Inputs, func(in release.Input) bool { return in.Name == name })
	if n < 0 {
		t.Fatalf("no input %s", name)
	}
	return m.Inputs[n]
}

func TestRebuildNamesInputs(t *testing.T) {
	o, m := archivedRelease(t)
	stub, kernel := input(t, m, "systemd-stub"), input(t, m, "linux.deb")
	if err := os.WriteFile(filepath.Join(o.Archive, stub.SHA256.String()), []byte("another stub"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(o.Archive, kernel.SHA256.String())); err != nil {
		t.Fatal(err)
	}
	_, err := rebuild(t, o.Output, o.Archive)
	var wrong *imagebuild.InputsError
	if !errors.As(err, &wrong) || !slices.Equal(wrong.Missing, []string{"linux.deb"}) || !slices.Equal(wrong.Changed, []string{"systemd-stub"}) {
		t.Errorf("error %v", err)
	}
}

// change rewrites the manifest of a release.
func change(t *testing.T, dir string, f func(*release.Manifest)) {
	t.Helper()
	name := filepath.Join(dir, imagebuild.ManifestName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := release.ParseManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	f(m)
	if b, err = m.Encode(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRebuildFindsALie(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o, _ := archivedRelease(t)
	change(t, o.Output, func(m *release.Manifest) { m.Disk.SHA256 = attest.Digest{1} })
	r := mustRebuild(t, o.Output, o.Archive)
	find(t, r, imagebuild.ManifestName, "disk.sha256")
	find(t, r, imagebuild.DiskName, "is not the one whose digest the manifest states")
	r = mustRebuild(t, filepath.Join(o.Output, imagebuild.ManifestName), o.Archive)
	find(t, r, imagebuild.DiskName, "only digests were compared")
}

// A manifest that fits its files and not its inputs: the program in the image
// is another than the one that it names.
func TestRebuildFindsAnotherProgram(t *testing.T) {
	o, m := archivedRelease(t)
	other := o
	other.Output = t.TempDir()
	other.Toolshed = filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other.Toolshed, []byte("stands in for a PROGRAM"), 0o755); err != nil {
		t.Fatal(err)
	}
	built(t, other)
	change(t, other.Output, func(lie *release.Manifest) { lie.Inputs = m.Inputs })
	r := mustRebuild(t, other.Output, o.Archive)
	d := find(t, r, imagebuild.UKIName, "section .initrd, entry payload/bin/toolshed")
	if d.Input != "bin/toolshed" || d.Offset <= 0 {
		t.Errorf("%+v", d)
	}
	d = find(t, r, imagebuild.DiskName, "the image, section .initrd, entry payload/bin/toolshed")
	if d.Input != "bin/toolshed" {
		t.Errorf("%+v", d)
	}
	find(t, r, imagebuild.ManifestName, "uki.sha256")
}

func TestRebuildFindsWhereAFileDiffers(t *testing.T) {
	if testing.Short() {
		t.Skip("building images takes seconds")
	}
	o, _ := archivedRelease(t)
	for _, places := range []map[string]place{
		{imagebuild.DiskName: {513, "the partition table"}, imagebuild.UKIName: {0x400, "section"}},
		{imagebuild.DiskName: {1<<20 + 3, "the EFI system partition's file system"}, imagebuild.UKIName: {70, "outside of the sections"}},
	} {
		for file, at := range places {
			flip(t, filepath.Join(o.Output, file), at.offset)
		}
		r := mustRebuild(t, o.Output, o.Archive)
		for file, at := range places {
			if d := find(t, r, file, at.where); d.Offset != at.offset {
				t.Errorf("%s: %+v", file, d)
			}
			flip(t, filepath.Join(o.Output, file), at.offset)
		}
	}
}

type place struct {
	offset int64
	where  string
}

// flip inverts a byte of a file.
func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

// Registers 0 and 1 that cannot be measured here are the manifest's word, and
// that is said.
func TestRebuildSaysWhatItCannotMeasure(t *testing.T) {
	o, _ := archivedRelease(t)
	firmware := standInFirmware(t)
	b, err := os.ReadFile(firmware)
	if err != nil {
		t.Fatal(err)
	}
	digest := attest.Sum(b)
	if err := os.WriteFile(filepath.Join(o.Archive, digest.String()), b, 0o600); err != nil {
		t.Fatal(err)
	}
	zero := func(digits int) map[string]string {
		return map[string]string{"0": strings.Repeat("0", digits), "1": strings.Repeat("0", digits)}
	}
	change(t, o.Output, func(m *release.Manifest) {
		m.Schema = release.SchemaFirmware
		m.Firmware = &release.Firmware{
			Code:      release.File{Name: imagebuild.FirmwareName, SHA256: attest.Sum([]byte("code")), Bytes: 4},
			Variables: release.File{Name: imagebuild.VariablesName, SHA256: attest.Sum([]byte("variables")), Bytes: 9},
			Shapes:    []release.Shape{{Shape: sampleShape, SHA256: zero(64), SHA384: zero(96)}},
		}
		m.Inputs = append(m.Inputs, release.Input{Name: "ovmf.deb", SHA256: digest, Bytes: int64(len(b))},
			release.Input{Name: "qemu-system-x86_64", SHA256: attest.Digest{9}, Bytes: 9})
		slices.SortFunc(m.Inputs, func(a, b release.Input) int { return strings.Compare(a.Name, b.Name) })
	})
	r := mustRebuild(t, o.Output, o.Archive)
	if !strings.Contains(r.NotMeasured, "qemu-system-x86_64") {
		t.Errorf("not measured: %q", r.NotMeasured)
	}
	for _, d := range r.Differences {
		if strings.Contains(d.Where, "firmware") {
			t.Errorf("%+v", d)
		}
	}
}

// A manifest that names other inputs than a release is made from makes none.
func TestRebuildRefuses(t *testing.T) {
	o, m := archivedRelease(t)
	stub := input(t, m, "systemd-stub")
	without := func(name string) func(*release.Manifest) {
		return func(m *release.Manifest) {
			m.Inputs = slices.DeleteFunc(m.Inputs, func(in release.Input) bool { return in.Name == name })
		}
	}
	with := func(name string) func(*release.Manifest) {
		return func(m *release.Manifest) {
			stub.Name = name
			m.Inputs = append(m.Inputs, stub)
			slices.SortFunc(m.Inputs, func(a, b release.Input) int { return strings.Compare(a.Name, b.Name) })
		}
	}
	firmware := func(m *release.Manifest) {
		zero := func(digits int) map[string]string {
			return map[string]string{"0": strings.Repeat("0", digits), "1": strings.Repeat("0", digits)}
		}
		m.Schema = release.SchemaFirmware
		m.Firmware = &release.Firmware{
			Code:      release.File{Name: imagebuild.FirmwareName, SHA256: attest.Sum([]byte("code")), Bytes: 4},
			Variables: release.File{Name: imagebuild.VariablesName, SHA256: attest.Sum([]byte("variables")), Bytes: 9},
			Shapes:    []release.Shape{{Shape: sampleShape, SHA256: zero(64), SHA384: zero(96)}},
		}
	}
	for name, f := range map[string]func(*release.Manifest){
		"no stub":                          without("systemd-stub"),
		"no kernel":                        without("linux.deb"),
		"an input without use":             with("somebody-elses"),
		"a firmware of nothing":            func(m *release.Manifest) { firmware(m); with("qemu-system-x86_64")(m) },
		"a firmware that nothing measured": func(m *release.Manifest) { firmware(m); with("ovmf.deb")(m) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b, err := os.ReadFile(filepath.Join(o.Output, imagebuild.ManifestName))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, imagebuild.ManifestName), b, 0o600); err != nil {
				t.Fatal(err)
			}
			change(t, dir, f)
			if _, err := rebuild(t, dir, o.Archive); !errors.Is(err, imagebuild.ErrOptions) {
				t.Errorf("error %v, want %v", err, imagebuild.ErrOptions)
			}
		})
	}
	change(t, o.Output, func(m *release.Manifest) { m.Inputs[0].Bytes++ })
	var wrong *imagebuild.InputsError
	if _, err := rebuild(t, o.Output, o.Archive); !errors.As(err, &wrong) || len(wrong.Changed) != 1 {
		t.Errorf("another length: %v", err)
	}
	// The same manifest in other bytes is another, whose digest clients have.
	name := filepath.Join(o.Output, imagebuild.ManifestName)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(b, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rebuild(t, name, o.Archive); !errors.Is(err, attest.ErrMalformed) {
		t.Errorf("another spelling: %v", err)
	}
	long := filepath.Join(t.TempDir(), "manifest.json")
	if err := os.WriteFile(long, make([]byte, release.MaxManifestBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := rebuild(t, long, o.Archive); !errors.Is(err, attest.ErrMalformed) || !strings.Contains(fmt.Sprint(err), long) {
		t.Errorf("a manifest that is too long: %v", err)
	}
}
