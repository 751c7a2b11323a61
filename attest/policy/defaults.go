package policy

import (
	"embed"
	"fmt"
	"path"
	"strings"

	"github.com/toolshed-cloud/shed/attest"
)

//go:embed defaults/*.yaml
var defaults embed.FS

// Defaults are the names that Default knows.
func Defaults() []string {
	entries, err := defaults.ReadDir("defaults")
	if err != nil {
		// It is embedded: a test shows that it is there.
		panic(err)
	}
	all := make([]string, len(entries))
	for i, e := range entries {
		all[i] = strings.TrimSuffix(e.Name(), ".yaml")
	}
	return all
}

// Default is the text of a policy that comes with the program: strict, to which
// an owner adds whose releases and which witnesses they trust, or local, for a
// machine that is run on an emulated TPM. The error is attest.ErrPolicy.
func Default(name string) ([]byte, error) {
	b, err := defaults.ReadFile(path.Join("defaults", path.Base(name)+".yaml"))
	if err != nil || path.Base(name) != name {
		return nil, fmt.Errorf("%w: no default is called %.40q, there are %s", attest.ErrPolicy, name, strings.Join(Defaults(), ", "))
	}
	return b, nil
}
