package main

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Deno, of some 95 MB with the C library, takes the toolshed's place.
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
func TestVMLongBunCompiledPayload(t *testing.T) {
	if os.Getenv("SHED_LONG") == "" {
		t.Skip("packs and boots 110 MB: set SHED_LONG=1, as make test-long does")
	}
	bun := os.Getenv("SHED_BUN")
	if bun == "" {
		t.Fatal("SHED_BUN names no Bun: make test-long sets it")
	}
	program := filepath.Join(t.TempDir(), "server")
	compile(t, nil, bun, "build", "--compile", "--outfile", program, "testdata/bun/server.ts")
	compiledPayload(t, program, "Bun ")
}

// A server that deno compile has made takes the toolshed's place.
func TestVMLongDenoCompiledPayload(t *testing.T) {
	if os.Getenv("SHED_LONG") == "" {
		t.Skip("packs and boots 92 MB: set SHED_LONG=1, as make test-long does")
	}
	deno, compiled := os.Getenv("SHED_DENO_COMPILER"), os.Getenv("SHED_DENO_COMPILED")
	if deno == "" || compiled == "" {
		t.Fatal("SHED_DENO_COMPILER and SHED_DENO_COMPILED name no Deno, or nothing that it compiled: make test-long sets them")
	}
	dir := t.TempDir()
	program, runtime := filepath.Join(dir, "server"), filepath.Join(dir, "denort")
	denoRuntime(t, compiled, runtime)
	compile(t, []string{"DENORT_BIN=" + runtime, "DENO_DIR=" + dir}, deno,
		"compile", "--no-remote", "--allow-all", "--output", program, "testdata/deno/server.ts")
	compiledPayload(t, program, "Deno ")
}

// denoRuntime writes the runtime of a program that deno compile has made, whose
// version is the compiler's. The compiler would fetch the runtime from its maker's
// own server, and no package has it but as a part of such programs. It is what
// stands up to the end of the section headers, the last of an ELF file; the script
// comes after it.
func denoRuntime(t *testing.T, compiled, to string) {
	t.Helper()
	b, err := os.ReadFile(compiled)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 64 || string(b[:4]) != elf.ELFMAG {
		t.Fatalf("%s is no ELF program", compiled)
	}
	order := binary.LittleEndian
	end := order.Uint64(b[40:]) + uint64(order.Uint16(b[58:]))*uint64(order.Uint16(b[60:]))
	if end >= uint64(len(b)) {
		t.Fatalf("%s has nothing after its section headers, which end at %d of %d bytes", compiled, end, len(b))
	}
	if err := os.WriteFile(to, b[:end], 0o755); err != nil {
		t.Fatal(err)
	}
}

// compile runs a compiler.
func compile(t *testing.T, env []string, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// compiledPayload wants one program, with the libraries that it needs, to take the
// toolshed's place.
func compiledPayload(t *testing.T, program, name string) {
	t.Helper()
	w := newWorld(t)
	root := w.rootOf(program, "/srv/server")
	w.releaseOf(root, "/srv/server", "--payload-port", "8000", "--env", "HOME=/data", "--network", "open")
	w.inTheToolshedsPlace("/srv/server", name)
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
