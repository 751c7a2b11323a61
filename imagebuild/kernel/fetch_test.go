package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/debian"
)

const concrete = "linux-image-6.12.1-cloud-amd64"

// fakeApt puts stand-ins for apt on the path: they know one kernel, whose
// record has the digest of wants, and download content. It returns the file
// that counts downloads, a byte each.
func fakeApt(t *testing.T, wants, content string) (downloads string) {
	t.Helper()
	dir := t.TempDir()
	downloads = filepath.Join(dir, "downloads")
	scripts := map[string]string{
		"apt-cache": fmt.Sprintf(`#!/bin/sh
case "$3" in
meta) printf 'Package: meta\nDepends: %[1]s (= 2:6.12.1-1)\n' ;;
%[1]s=2:6.12.1-1) printf 'Package: %[1]s\nArchitecture: amd64\nSHA256: %[2]s\n' ;;
*) echo "E: No packages found" >&2; exit 100 ;;
esac
`, concrete, attest.Sum([]byte(wants))),
		"apt-get": fmt.Sprintf(`#!/bin/sh
printf x >> '%s'
printf '%%s' '%s' > '%s_2%%3a6.12.1-1_amd64.deb'
`, downloads, content, concrete),
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return downloads
}

func TestFetchDownloadsOnce(t *testing.T) {
	downloads := fakeApt(t, "package", "package")
	cache := filepath.Join(t.TempDir(), "cache")
	for range 2 {
		p, err := Fetch(t.Context(), "meta", cache)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(p.Path)
		if err != nil || string(got) != "package" || p.Name != concrete || p.Version != "2:6.12.1-1" {
			t.Errorf("%+v holds %q, %v", p, got, err)
		}
	}
	if count, err := os.ReadFile(downloads); err != nil || len(count) != 1 {
		t.Errorf("%d downloads, %v", len(count), err)
	}
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v, %v", entries, err)
	}
}

func TestFetchReplacesAnAlteredPackage(t *testing.T) {
	fakeApt(t, "package", "package")
	cache := t.TempDir()
	p, err := Fetch(t.Context(), "meta", cache)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.Path, []byte("altered"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetch(t.Context(), "meta", cache); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(p.Path); err != nil || string(got) != "package" {
		t.Errorf("the cache holds %q, %v", got, err)
	}
}

func TestFetchRefusesAnotherDigest(t *testing.T) {
	fakeApt(t, "package", "something else")
	cache := t.TempDir()
	if _, err := Fetch(t.Context(), "meta", cache); !errors.Is(err, debian.ErrDownload) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 0 {
		t.Errorf("the cache holds %v, %v", entries, err)
	}
}

func TestFetchWithoutLists(t *testing.T) {
	fakeApt(t, "package", "package")
	if _, err := Fetch(t.Context(), "unknown", t.TempDir()); !errors.Is(err, debian.ErrLists) {
		t.Errorf("got %v", err)
	}
}
