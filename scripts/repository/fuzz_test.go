package repository

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var fuzzTest = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(f \*testing\.F\)`)

// Fuzz tests of these begin with what is committed beside them, so that every
// run of the tests tries it, and an encoding of before is tried by what comes
// after.
func TestFuzzTestsHaveACorpus(t *testing.T) {
	for _, dir := range []string{"attest", "agent/api", "agent/resolver", "agent/verity"} {
		found := 0
		err := filepath.WalkDir(filepath.Join(root(t), dir), func(path string, _ fs.DirEntry, err error) error {
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
			t.Errorf("%s: %d fuzz tests, %v", dir, found, err)
		}
	}
}
