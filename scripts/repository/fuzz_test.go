package repository

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var fuzzTest = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(\w+ \*testing\.F\)`)

// maxInput caps a committed input, in bytes: every run of the tests tries it.
const maxInput = 64 << 10

// Fuzz tests begin with what is committed beside them, so that every run of the
// tests tries it, and an encoding of before is tried by what comes after.
func TestFuzzTestsHaveACorpus(t *testing.T) {
	all := fuzzTests(t)
	if len(all) == 0 {
		t.Fatal("no fuzz tests")
	}
	for dir, names := range all {
		fuzz := filepath.Join(dir, "testdata", "fuzz")
		for _, name := range names {
			checkCorpus(t, filepath.Join(fuzz, name))
		}
		kept, err := os.ReadDir(fuzz)
		if err != nil {
			continue // it is said above of each
		}
		for _, corpus := range kept {
			if !slices.Contains(names, corpus.Name()) {
				t.Errorf("%s is of no fuzz test", filepath.Join(fuzz, corpus.Name()))
			}
		}
	}
}

// fuzzTests are the names of all fuzz tests, by directory.
func fuzzTests(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(path)
		for _, name := range fuzzTest.FindAllSubmatch(b, -1) {
			all[filepath.Dir(path)] = append(all[filepath.Dir(path)], string(name[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func checkCorpus(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Errorf("no committed corpus: want files in %s: %v", dir, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(dir, file.Name()))
		if err != nil || len(b) > maxInput || !bytes.HasPrefix(b, []byte("go test fuzz v1\n")) {
			t.Errorf("%s: %d bytes of an input, at most %d, %v", filepath.Join(dir, file.Name()), len(b), maxInput, err)
		}
	}
}
