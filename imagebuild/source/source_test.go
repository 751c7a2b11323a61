package source_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/imagebuild/source"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{"go.mod": "module " + source.Module + "\n", "go.sum": ""}
	for _, part := range []string{"agent", "attest", "cmd", "imagebuild", "toolshed"} {
		all[part+"/a.go"] = "package " + part
	}
	for name, text := range files {
		all[name] = text
	}
	for name, text := range all {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func digest(t *testing.T, dir string) attest.Digest {
	t.Helper()
	d, err := source.Digest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDigestIsOfWhatCounts(t *testing.T) {
	base := digest(t, tree(t, nil))
	for name, counts := range map[string]bool{
		"agent/b.go": true, "toolshed/page.html": true, "imagebuild/image.lock": true, "go.sum": true,
		"agent/b_test.go": false, "agent/testdata/x": false, "agent/.swp": false, "cmd/_old/x.go": false,
		"docs/guide.md": false, "bin/shed": false, "scripts/local/main.go": false,
	} {
		if got := digest(t, tree(t, map[string]string{name: "text"})); (got != base) != counts {
			t.Errorf("%s: counts is %v", name, got != base)
		}
	}
}

func TestNotTheSource(t *testing.T) {
	if _, err := source.Digest(t.TempDir()); !errors.Is(err, source.ErrSource) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := source.Digest(tree(t, map[string]string{"go.mod": "module example.org/other\n"})); !errors.Is(err, source.ErrSource) {
		t.Errorf("another module: %v", err)
	}
	dir := tree(t, nil)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "agent", "link.go")); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Digest(dir); !errors.Is(err, source.ErrSource) {
		t.Errorf("a link: %v", err)
	}
}

// TestShellSaysTheSame holds the digest against the line of shell that the
// decision gives.
func TestShellSaysTheSame(t *testing.T) {
	root := "../.."
	page, err := os.ReadFile(filepath.Join(root, "docs/decisions/0075-a-lock-for-images.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(page), "\n    find ")
	line, _, end := strings.Cut(text, "\n\n")
	if !ok || !end {
		t.Fatal("the decision has no line that begins with find")
	}
	cmd := exec.Command("sh", "-c", "find "+line)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, _, _ := strings.Cut(string(out), " "); got != digest(t, root).String() {
		t.Errorf("the shell says %s, Digest %s", got, digest(t, root))
	}
}

// TestProgramsAreMadeOfIt wants every file that goes into the image's programs,
// or into the program that builds it, in the digest.
func TestProgramsAreMadeOfIt(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	names, err := source.Files(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module,GoFiles,EmbedFiles,SFiles", "./cmd/shed-agent", "./cmd/toolshed", "./imagebuild/...")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		seen := 0
		for d := json.NewDecoder(out); ; {
			var p struct {
				Dir                         string
				Module                      *struct{ Main bool }
				GoFiles, EmbedFiles, SFiles []string
			}
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			if p.Module == nil || !p.Module.Main {
				continue
			}
			for _, f := range slices.Concat(p.GoFiles, p.EmbedFiles, p.SFiles) {
				name, err := filepath.Rel(root, filepath.Join(p.Dir, f))
				if err != nil {
					t.Fatal(err)
				}
				if seen++; !slices.Contains(names, name) {
					t.Errorf("%s is compiled and not digested", name)
				}
			}
		}
		if err := cmd.Wait(); err != nil || seen < 100 {
			t.Errorf("%d files, %v", seen, err)
		}
	}
}
