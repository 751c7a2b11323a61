package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Deno, of some 95 MB with the C library, takes the toolshed's place. What deno
// compile makes is this program too, with the script at its end.
func TestVMLongDenoPayload(t *testing.T) {
	if os.Getenv("SHED_LONG") == "" {
		t.Skip("packs and boots 95 MB: set SHED_LONG=1, as make test-long does")
	}
	deno := os.Getenv("SHED_DENO")
	if deno == "" {
		t.Fatal("SHED_DENO names no Deno: make test-long sets it")
	}
	w := newWorld(t)
	// What npm installs starts the program, which lies beside it.
	program, err := filepath.EvalSymlinks(deno)
	w.must(err)
	program = filepath.Join(filepath.Dir(program), "deno")
	root, needed := t.TempDir(), map[string]bool{}
	w.libraries(program, needed)
	for path := range needed {
		w.copyInto(root, path, path)
	}
	w.copyInto(root, program, "/usr/bin/deno")
	w.copyInto(root, "testdata/deno/server.ts", "/srv/server.ts")
	w.releaseOf(root, "deno run --no-remote --allow-all /srv/server.ts", "--payload-port", "8000",
		"--env", "DENO_DIR=/tmp/deno", "--env", "HOME=/data", "--env", "NO_COLOR=1", "--network", "open")
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"verify", i.URL}, "accepted", "payload: /usr/bin/deno run", "it may reach anybody but")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	if said := w.ask(i.URL, "GET", "/", ""); !strings.HasPrefix(said, "Deno ") {
		t.Errorf("it says %q", said)
	}
	w.ask(i.URL, "GET", "/keep?text=kept", "")
	if said := w.ask(i.URL, "GET", "/kept", ""); said != "kept" {
		t.Errorf("it kept %q", said)
	}
	if said := w.ask(i.URL, "GET", "/reach", ""); !strings.Contains(said, "not permitted") && !strings.Contains(said, "PermissionDenied") {
		t.Errorf("of the host it says %q", said)
	}
}
