package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// documented is the first block of YAML in a page of the documentation.
func documented(t *testing.T, page string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), "```yaml\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatalf("%s has no block of yaml", page)
	}
	return block
}

// The configuration that the operators' page shows makes machines, with an
// image built as it says there: only the places are the test's own.
func TestVMOperationsConfiguration(t *testing.T) {
	w := newWorld(t)
	w.unlogged = true
	w.releaseWith("./cmd/toolshed")
	dir := filepath.Dir(w.place.config())
	text := strings.NewReplacer("/var/lib/shed", dir, "/run/shed", w.place.runtime).Replace(documented(t, "operations.md"))
	w.must(os.WriteFile(w.place.config(), []byte(text), 0o600))
	w.must(os.MkdirAll(filepath.Join(dir, "keys"), 0o700))
	// Where the world looks for what the provider makes.
	w.must(os.RemoveAll(filepath.Join(w.place.root, "provider")))
	w.must(os.Symlink(filepath.Join(dir, "provider"), filepath.Join(w.place.root, "provider")))
	key, err := os.ReadFile(w.place.releasePublicKey())
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "keys", "release.pub"), key, 0o600))
	for name, port := range map[string]int{"ADMIN": w.ports.Admin, "WEBHOOKS": w.ports.Webhooks, "AGENTS": w.ports.Agents} {
		w.env = append(w.env, fmt.Sprintf("SHED_LISTEN_%s=127.0.0.1:%d", name, port))
	}
	w.start()
	w.signUp("ada")
	w.ready("ada")
}
