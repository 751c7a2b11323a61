package debian

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
)

// wantedFirmware is the package that fakeApt has.
func wantedFirmware() Exact {
	return Exact{Name: "fw", Version: "1:2-3", Architecture: "all", Suite: "trixie", SHA256: attest.Sum([]byte("package"))}
}

func fetchExact(t *testing.T, e Exact, archive, cache string) (*Package, error) {
	t.Helper()
	packages, err := FetchExact(t.Context(), []Exact{e}, "amd64", archive, cache)
	if err != nil {
		return nil, err
	}
	return packages[0], nil
}

func TestExactIsTakenFromWhereItIs(t *testing.T) {
	asked := fakeApt(t)
	cache, archive := t.TempDir(), t.TempDir()
	e := wantedFirmware()
	const once = "get update;cache;get fw=1:2-3;"
	for range 2 {
		p, err := fetchExact(t, e, archive, cache)
		if err != nil || filepath.Dir(p.Path) != cache {
			t.Fatalf("%+v, %v", p, err)
		}
		if asked() != once {
			t.Errorf("apt was asked %q", asked())
		}
	}
	// What was altered in the cache is fetched again.
	if err := os.WriteFile(filepath.Join(cache, "fw_1%3a2-3_all.deb"), []byte("altered"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := fetchExact(t, e, archive, cache)
	if err != nil || asked() != once+once {
		t.Errorf("%v, asked %q", err, asked())
	}
	if b, err := os.ReadFile(p.Path); err != nil || string(b) != "package" {
		t.Errorf("%q, %v", b, err)
	}
	// The archive comes first, and is believed by digest alone.
	kept := filepath.Join(archive, e.SHA256.String())
	if err := os.WriteFile(kept, []byte("package"), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := fetchExact(t, e, archive, t.TempDir()); err != nil || p.Path != kept {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.WriteFile(kept, []byte("altered"), 0o644); err != nil {
		t.Fatal(err)
	}
	var other *DigestError
	if _, err := fetchExact(t, e, archive, t.TempDir()); !errors.As(err, &other) || other.Have != attest.Sum([]byte("altered")) {
		t.Errorf("an altered archive: %v", err)
	}
}

func TestExactRefusesAnother(t *testing.T) {
	fakeApt(t)
	e := wantedFirmware()
	e.SHA256 = attest.Digest{1}
	var other *DigestError
	if _, err := fetchExact(t, e, "", t.TempDir()); !errors.As(err, &other) || other.Wanted != e.SHA256 {
		t.Errorf("got %v", err)
	}
}

func TestExactIsSuperseded(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"apt-get": "#!/bin/sh\n", "apt-cache": "#!/bin/sh\nexit 100\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	if _, err := fetchExact(t, wantedFirmware(), "", t.TempDir()); !errors.Is(err, ErrSuperseded) {
		t.Errorf("got %v", err)
	}
}

func TestNewestNamesForGood(t *testing.T) {
	fakeApt(t)
	exact, packages, err := Foreign{Suite: "trixie", Architecture: "amd64", Names: []string{"fw"}}.Newest(t.Context(), t.TempDir())
	if err != nil || len(exact) != 1 || exact[0] != wantedFirmware() || packages[0].Version != "1:2-3" {
		t.Errorf("%+v, %v", exact, err)
	}
}
