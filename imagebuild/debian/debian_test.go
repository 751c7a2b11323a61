package debian

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// fakeApt puts stand-ins for apt on the path that know one package once they
// were told to update, and write down what they are asked.
func fakeApt(t *testing.T) (asked func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	for name, text := range map[string]string{
		"apt-cache": fmt.Sprintf("#!/bin/sh\necho cache >>'%s'\nprintf 'Package: fw\\nVersion: 1:2-3\\nArchitecture: all\\nSHA256: %s\\n'\n", log, attest.Sum([]byte("package"))),
		"apt-get": fmt.Sprintf(`#!/bin/sh
for last; do :; done
echo "get $last" >>'%s'
case $last in fw=1:2-3) printf package >fw_1%%3a2-3_all.deb ;; esac
case "$*" in *Dir::Etc::SourceParts=/dev/null*Dir::State::Lists=/*) ;; *) exit 9 ;; esac
`, log),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() string {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(b), "\n", ";")
	}
}

// TestSuiteIsAskedOnce wants no list fetched where the cache has the package,
// and a package that was altered there fetched again.
func TestSuiteIsAskedOnce(t *testing.T) {
	asked := fakeApt(t)
	t.Chdir(t.TempDir())
	const cache = "cache"
	const once = "get update;cache;get fw=1:2-3;"
	for range 2 {
		p, err := FetchFrom(t.Context(), "trixie", "fw", cache)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(p.Path); err != nil || string(got) != "package" || p.Version != "1:2-3" {
			t.Errorf("%+v holds %q, %v", p, got, err)
		}
		if got := asked(); got != once {
			t.Errorf("apt was asked %q, want %q", got, once)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, "fw_1%3a2-3_all.deb"), []byte("altered"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := FetchFrom(t.Context(), "trixie", "fw", cache)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(p.Path); err != nil || string(got) != "package" {
		t.Errorf("the cache holds %q, %v", got, err)
	}
}

func TestSuiteWithoutLists(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte("#!/bin/sh\necho E: no network; exit 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if _, err := FetchFrom(t.Context(), "trixie", "fw", t.TempDir()); !errors.Is(err, ErrLists) {
		t.Errorf("got %v", err)
	}
}

func TestReadBoundsWhatItKeeps(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"./a", "./b", "./c"} {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 4}), write(w, "data")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	read := func(limit int64) (string, error) {
		var names string
		err := Read(tar.NewReader(bytes.NewReader(b.Bytes())), limit, func(name string) bool { return name != "b" },
			func(name string, _ []byte) error { names += name; return nil })
		return names, err
	}
	if names, err := read(8); names != "ac" || err != nil {
		t.Errorf("got %q, %v", names, err)
	}
	if _, err := read(7); !errors.Is(err, ErrArchive) {
		t.Errorf("got %v", err)
	}
}

func write(w *tar.Writer, data string) error {
	_, err := w.Write([]byte(data))
	return err
}

func TestParseRecordReadsTheFirst(t *testing.T) {
	got := parseRecord([]byte("Package: a\nDescription: one\n two: more\nSHA256: ff\n\nPackage: b\n"))
	want := map[string]string{"Package": "a", "Description": "one", "SHA256": "ff"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("Package: a\nDepends: linux-image-1 (= 2)\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for key, value := range parseRecord(b) {
			if strings.ContainsAny(key+value, "\n") {
				t.Errorf("%q: %q spans lines", key, value)
			}
		}
	})
}

// TestForeignPackagesAreAskedOnce wants an apt of the architecture asked, once,
// and the metapackage's own followed.
func TestForeignPackagesAreAskedOnce(t *testing.T) {
	asked := fakeApt(t)
	cache := t.TempDir()
	f := Foreign{Suite: "bookworm", Architecture: "arm64", Names: []string{"fw"}, Through: "meta",
		Concrete: func(string) (string, string, error) { return "fw", "1:2-3", nil }}
	const once = "get update;cache;get fw=1:2-3;cache;cache;"
	for range 2 {
		packages, err := FetchForeign(t.Context(), f, cache)
		if err != nil {
			t.Fatal(err)
		}
		if len(packages) != 2 || packages[0].Name != "fw" || packages[1].Version != "1:2-3" {
			t.Errorf("got %+v", packages)
		}
		if got := asked(); got != once {
			t.Errorf("apt was asked %q, want %q", got, once)
		}
	}
	f.Names = []string{"fw", "fw"}
	if _, err := FetchForeign(t.Context(), f, cache); err != nil || asked() == once {
		t.Errorf("other names are answered out of the cache: %v", err)
	}
	want := errors.New("no kernel")
	f.Through, f.Concrete = "other", func(string) (string, string, error) { return "", "", want }
	if _, err := FetchForeign(t.Context(), f, cache); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestUnpackLaysOutOnce(t *testing.T) {
	cache := t.TempDir()
	broken := filepath.Join(cache, "broken.deb")
	if err := os.WriteFile(broken, []byte("no package"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(t.Context(), []*Package{{Path: broken}}, cache); !errors.Is(err, ErrArchive) {
		t.Errorf("no package: %v", err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	control := "Package: one\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
	for name, text := range map[string]string{"DEBIAN/control": control, "usr/lib/file": "content"} {
		file := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	one := filepath.Join(cache, "one.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, one).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	for range 2 {
		root, err := Unpack(t.Context(), []*Package{{Path: one, SHA256: attest.Digest{1}}}, cache)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(root, "usr/lib/file")); err != nil || string(got) != "content" {
			t.Errorf("%q, %v", got, err)
		}
		// The second time nothing is read.
		if err := os.WriteFile(one, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, ".root-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
