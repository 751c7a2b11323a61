package repository

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var fuzzTest = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// What a fuzz test of attest begins with is committed beside it, so that every
// run of the tests tries it, and an encoding of before is tried by what comes
// after.
func TestFuzzTestsHaveACorpus(t *testing.T) {
	found := 0
	err := filepath.WalkDir(filepath.Join(root(t), "attest"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range fuzzTest.FindAllSubmatch(b, -1) {
			found++
			corpus := filepath.Join(filepath.Dir(path), "testdata", "fuzz", string(name[1]))
			if files, err := os.ReadDir(corpus); err != nil || len(files) == 0 {
				t.Errorf("%s: %s has no committed corpus, want files in %s: %v", path, name[1], corpus, err)
			}
		}
		return nil
	})
	if err != nil || found == 0 {
		t.Errorf("%d fuzz tests, %v", found, err)
	}
}
