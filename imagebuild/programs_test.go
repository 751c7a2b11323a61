package imagebuild_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild"
	"github.com/toolshed-cloud/shed/imagebuild/source"
)

// copySource copies what is digested of the source, as an archive of it would
// be unpacked somewhere else.
func copySource(t *testing.T, from string) string {
	t.Helper()
	names, err := source.Files(from)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range names {
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		copyFile(t, filepath.Join(from, name), to)
	}
	return dir
}

// TestRebuildFromSource shows a release to be what its source makes, from the
// source's own files in another directory, and names the program that another
// source makes otherwise.
func TestRebuildFromSource(t *testing.T) {
	o := lockedOptions(t)
	o.Agent, o.Toolshed, o.Source = buildProgram(t, "../cmd/shed-agent"), buildProgram(t, "../cmd/toolshed"), ".."
	built(t, o)
	elsewhere := copySource(t, "..")
	from := func(dir string) *imagebuild.Rebuilt {
		r, err := imagebuild.Rebuild(t.Context(), imagebuild.RebuildOptions{
			Release: o.Output, Inputs: o.Archive, Output: t.TempDir(), Cache: t.TempDir(), Source: dir,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := from(elsewhere); !r.Same || !r.FromSource {
		t.Errorf("%+v", r)
	}
	main := filepath.Join(elsewhere, "cmd/toolshed/main.go")
	text, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	changed := append(text, "\nfunc init() { println() }\n"...)
	if err := os.WriteFile(main, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	r := from(elsewhere)
	if d := find(t, r, "bin/toolshed", "the source makes "); d.Input != "./cmd/toolshed" {
		t.Errorf("%+v", d)
	}
	if d := find(t, r, imagebuild.LockName, elsewhere); !strings.Contains(d.Where, "the source is ") {
		t.Errorf("%+v", d)
	}
	if len(r.Differences) != 2 {
		t.Errorf("%+v", r.Differences)
	}
}

// TestProgramFlagsAreTheMakefiles wants one way of building the programs.
func TestProgramFlagsAreTheMakefiles(t *testing.T) {
	out, err := exec.Command("make", "-C", "..", "-n", "--no-print-directory", "build").Output()
	if err != nil {
		t.Skipf("no make: %v", err)
	}
	want := "CGO_ENABLED=0 go build -trimpath -ldflags='-s -w -buildid=' -buildvcs=false -o bin/ ./cmd/shed-agent ./cmd/toolshed"
	if !strings.Contains(string(out), want) {
		t.Errorf("make build no longer has %q", want)
	}
}
