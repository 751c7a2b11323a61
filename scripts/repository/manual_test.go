package repository

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every command has its manual page, from the program that has the command.
func TestManualPages(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles three programs")
	}
	dir := t.TempDir()
	if out, err := exec.Command(filepath.Join(root(t), "scripts/man"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for page, says := range map[string]string{
		"shed.1": "Exit codes", "shed-serve.1": "power-off-on-exit", "shed-image-build.1": "secure-boot-keys",
		"shed-instance-delete.1": "asks", "shed-verify.1": "minimum-tier",
	} {
		b, err := os.ReadFile(filepath.Join(dir, page))
		if err != nil || !bytes.Contains(bytes.ReplaceAll(b, []byte(`\-`), []byte("-")), []byte(says)) {
			t.Errorf("%s does not say %q, error %v:\n%s", page, says, err, b)
		}
	}
	// What the help has in lines of their own the page has so too.
	for page, lines := range map[string]string{
		"shed.1":               ".EX\n0  done\n1  failed\n",
		"shed-image-build.1":   ".EX\nshed image build --output RELEASE --payload DIR --command 'server --quiet' \\\n  --health /health",
		"shed-release-audit.1": ".EX\nfork              a head that does not fit another: the log shows two histories\nrollback ",
	} {
		b, err := os.ReadFile(filepath.Join(dir, page))
		written := strings.NewReplacer(`\-`, "-", `\(aq`, "'", `\\`, `\`, `\e`, `\`).Replace(string(b))
		if err != nil || !strings.Contains(written, lines) {
			t.Errorf("%s has not the lines %q, error %v:\n%s", page, lines, err, b)
		}
	}
}
