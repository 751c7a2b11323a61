package sdk_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a piece of the page that is to be typed.
var block = regexp.MustCompile("(?ms)^```(sh|go)\n(.*?)^```$")

// The provider of docs/writing-a-provider.md, built by following the page
// alone, passes the suite, and is signed and installed.
func TestTutorial(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs and runs the conformance suite")
	}
	page, err := os.ReadFile("../../docs/writing-a-provider.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// Sockets have short paths.
	dir, err := os.MkdirTemp("", "shw-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	bin := filepath.Join(dir, "bin")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", "./cmd/shed", "./cmd/shed-serve", "./cmd/shed-image")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	env := append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "SHED_SOURCE="+source, "SHED_STATE="+filepath.Join(dir, "state"),
		// What the checkout's own module uses is in the cache, and its sums say
		// what it is.
		"GOFLAGS=-mod=mod", "GONOSUMDB=*", "GONOSUMCHECK=1")
	var code, said bytes.Buffer
	work := dir
	for _, part := range block.FindAllStringSubmatch(string(page), -1) {
		if part[1] == "go" {
			code.WriteString(part[2])
			if err := os.WriteFile(filepath.Join(work, "main.go"), code.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-eux")
		cmd.Stdin = strings.NewReader(part[2])
		cmd.Dir, cmd.Env = work, env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, part[2], out)
		}
		said.Write(out)
		// The page goes into its folder with the first of them.
		work = filepath.Join(dir, "shed-provider-folder")
	}
	if !regexp.MustCompile(`folder 1\.0\.0: (8[0-9]|9[0-9]|1[0-9]{2}) passed, 0 failed, [0-9]+ skipped, 0 left behind`).Match(said.Bytes()) {
		t.Errorf("the suite said:\n%s", said.String())
	}
	if !strings.Contains(said.String(), "installed provider folder 1.0.0") {
		t.Errorf("it was not installed:\n%s", said.String())
	}
}
