package repository

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/toolshed-cloud/shed/"

// listed is what go list says of one package.
type listed struct {
	ImportPath, Dir        string
	Deps, Imports, GoFiles []string
}

func list(t *testing.T, patterns ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, patterns...)...)
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Every package has one package comment, and it states an invariant.
func TestPackageComments(t *testing.T) {
	for _, p := range list(t, "./...") {
		var comments []string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil && !ast.IsGenerated(f) {
				comments = append(comments, f.Doc.Text())
			}
		}
		if strings.HasSuffix(p.ImportPath, "/pb") || len(p.GoFiles) == 0 {
			continue
		}
		if len(comments) != 1 || !strings.Contains(comments[0], "nvariant") {
			t.Errorf("%s has %d package comments, want one that states an invariant", p.ImportPath, len(comments))
		}
	}
}

// What matters most of who may import whom (docs/decisions).
func TestLayers(t *testing.T) {
	for _, rule := range []struct {
		of        string
		forbidden *regexp.Regexp
		reason    string
	}{
		{"./cmd/shed-agent", regexp.MustCompile(`^` + module + `(providers|orchestrator|imagebuild|toolshed)|aws-sdk|cloud\.google\.com|Azure|modernc\.org/sqlite|sigstore|riverqueue|huma`),
			"the agent is measured code: no provider, no control plane, no cloud's SDK, nothing only a server needs"},
		{"./cmd/shed", regexp.MustCompile(`^` + module + `(agent|providers|imagebuild|toolshed|orchestrator($|/[^a]|/api))|sqlite|riverqueue|grpc|go-plugin|go-hclog|huma|sigstore|aws-sdk|cloud\.google\.com|Azure|hashicorp/vault|prometheus`),
			"what an owner has to trust stays small: no store, queue, gRPC, plugin host, cloud's SDK or image builder"},
		{"./orchestrator/adminclient", regexp.MustCompile(`^` + module + `(agent|providers|imagebuild|toolshed|orchestrator)($|/[^a]|/api)|zap|huma`),
			"the wire links nothing of the server's"},
		{"./attest/...", regexp.MustCompile(`^` + module + `(agent|providers|orchestrator|imagebuild|toolshed|cmd)`),
			"a client takes attest alone"},
		{"./attest/...", regexp.MustCompile(`sigstore`), "a verifier by key needs a small parser only"},
		{"./attest/verifier", regexp.MustCompile(`^(net/http|crypto/tls|os/exec)$`), "a verifier asks nobody, and builds for browsers"},
		{"./attest/bundle", regexp.MustCompile(`^(net/http|crypto/tls|os/exec)$`), "a bundle is judged with no network"},
		{"./orchestrator/...", regexp.MustCompile(`^` + module + `(providers/(qemu|memory)|imagebuild|agent/(ingress|boot|supervise|enrol)$)`),
			"the control plane knows the contract alone"},
		{"./toolshed/...", regexp.MustCompile(`^` + module + `(agent|attest|providers|orchestrator|imagebuild)`),
			"any other server can take the toolshed's place"},
		{"./cmd/toolshed", regexp.MustCompile(`^google\.golang\.org/grpc|otlptracehttp|otlpmetrichttp`),
			"traces go by HTTP alone, and gRPC costs 2 MB (docs/decisions/0065)"},
	} {
		for _, p := range list(t, rule.of) {
			for _, dep := range p.Deps {
				if rule.forbidden.MatchString(dep) {
					t.Errorf("%s links %s: %s", p.ImportPath, dep, rule.reason)
				}
			}
		}
	}
}

// Concrete providers are imported by cmd alone, and by the benchmarks, which
// are programs too.
func TestConcreteProviders(t *testing.T) {
	for _, p := range list(t, "./...") {
		path := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(path, "cmd/") || strings.HasPrefix(path, "providers/") || strings.HasPrefix(path, "scripts/bench-") {
			continue
		}
		for _, concrete := range []string{"providers/qemu", "providers/aws", "providers/memory", "providers/libvirt"} {
			if slices.Contains(p.Imports, module+concrete) {
				t.Errorf("%s imports %s", path, concrete)
			}
		}
	}
}

// The smells that a line can show.
func TestSmells(t *testing.T) {
	smells := []struct {
		files  *regexp.Regexp
		line   *regexp.Regexp
		reason string
	}{
		{regexp.MustCompile(`\.go$`), regexp.MustCompile(`^\s+// (Step [0-9]|First,|Now |Check if|Create (a|the) |Initiali[sz]e |Return )`), "a comment that narrates"},
		{regexp.MustCompile(`\.go$`), regexp.MustCompile(`Contains\((err|e)\.Error\(\)`), "an error told by its text"},
		{regexp.MustCompile(`_test\.go$`), regexp.MustCompile(`time\.Sleep\(`), "a test that sleeps"},
	}
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && strings.HasPrefix(d.Name(), ".") && path != root(t) {
				return filepath.SkipDir
			}
			return err
		}
		for _, s := range smells {
			// This file spells them out.
			if !s.files.MatchString(path) || strings.HasSuffix(path, "repository_test.go") {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("reading %s: %w", path, err)
			}
			for n, line := range strings.Split(string(b), "\n") {
				if s.line.MatchString(line) {
					t.Errorf("%s:%d: %s: %s", path, n+1, s.reason, strings.TrimSpace(line))
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What is built does not belong to the sources: go build leaves a program where it is
// called.
func TestNoProgramIsKept(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root(t)
	kept, err := cmd.Output()
	if err != nil {
		t.Skipf("this is no checkout: %v", err)
	}
	for name := range strings.SplitSeq(strings.Trim(string(kept), "\x00"), "\x00") {
		b, err := os.ReadFile(filepath.Join(root(t), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
			t.Errorf("%s is a program, of %d bytes", name, len(b))
		}
	}
}
