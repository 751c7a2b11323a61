package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Deno, of some 95 MB with the C library, takes the toolshed's place. deno compile
// wants a runtime from its maker's own server: the test below has a compiled program.
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
	root := w.rootOf(program, "/usr/bin/deno")
	w.copyInto(root, "testdata/deno/server.ts", "/srv/server.ts")
	w.releaseOf(root, "deno run --no-remote --allow-all /srv/server.ts", "--payload-port", "8000",
		"--env", "DENO_DIR=/tmp/deno", "--env", "HOME=/data", "--env", "NO_COLOR=1", "--network", "open")
	i := w.inTheToolshedsPlace("/usr/bin/deno run", "Deno ")
	if said := w.ask(i.URL, "GET", "/reach", ""); !strings.Contains(said, "not permitted") && !strings.Contains(said, "PermissionDenied") {
		t.Errorf("of the host it says %q", said)
	}
}

// A server that bun build --compile has made one program of, with the script at its
// end, takes the toolshed's place.
func TestVMLongCompiledPayload(t *testing.T) {
	if os.Getenv("SHED_LONG") == "" {
		t.Skip("packs and boots 110 MB: set SHED_LONG=1, as make test-long does")
	}
	bun := os.Getenv("SHED_BUN")
	if bun == "" {
		t.Fatal("SHED_BUN names no Bun: make test-long sets it")
	}
	w := newWorld(t)
	program := filepath.Join(t.TempDir(), "server")
	if out, err := exec.CommandContext(t.Context(), bun, "build", "--compile", "--outfile", program, "testdata/bun/server.ts").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root := w.rootOf(program, "/srv/server")
	w.releaseOf(root, "/srv/server", "--payload-port", "8000", "--env", "HOME=/data", "--network", "open")
	w.inTheToolshedsPlace("/srv/server", "Bun ")
}

// rootOf is a directory with a program at a path, and the libraries that it needs.
func (w *world) rootOf(program, path string) string {
	w.t.Helper()
	root, needed := w.t.TempDir(), map[string]bool{}
	w.libraries(program, needed)
	for library := range needed {
		w.copyInto(root, library, library)
	}
	w.copyInto(root, program, path)
	return root
}

// inTheToolshedsPlace wants the world's payload, of a command, to answer its owner and
// to keep what it is given.
func (w *world) inTheToolshedsPlace(command, name string) instance {
	w.t.Helper()
	w.start()
	w.signUp("ada")
	i := w.ready("ada")
	w.exits(0, []string{"verify", i.URL}, "accepted", "payload: "+command, "it may reach anybody but")
	w.exits(0, []string{"claim", i.URL}, "is yours")
	if said := w.ask(i.URL, "GET", "/", ""); !strings.HasPrefix(said, name) {
		w.t.Errorf("it says %q", said)
	}
	w.ask(i.URL, "GET", "/keep?text=kept", "")
	if said := w.ask(i.URL, "GET", "/kept", ""); said != "kept" {
		w.t.Errorf("it kept %q", said)
	}
	return i
}
