package payloadtree_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/toolshed-cloud/shed/imagebuild/payloadtree"
)

// compile makes ELF files with a compiler that is not ours.
func compile(t *testing.T, out, source string, flags ...string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(out), 0o755))
	c := filepath.Join(t.TempDir(), "source.c")
	must(t, os.WriteFile(c, []byte(source), 0o600))
	if text, err := exec.Command("clang", append([]string{"-nostdlib", "-fuse-ld=lld", "-o", out, c}, flags...)...).CombinedOutput(); err != nil {
		t.Fatalf("clang: %v\n%s", err, text)
	}
}

const (
	library = "int f(void) { return 1; }"
	program = "int f(void); void _start(void) { f(); }"
	loader  = "-Wl,--dynamic-linker=/lib64/ld-test.so"
)

// payloadWith is a program with a loader, a library of its own and one of that.
func payloadWith(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	compiledOnce.Do(func() {
		var err error
		compiled, err = os.MkdirTemp("", "payload")
		must(t, err)
		compileAll(t, compiled)
	})
	must(t, os.CopyFS(dir, os.DirFS(compiled)))
	write(t, dir, map[string]string{"lib64/ld-test.so": "-> ../usr/bin/loader"})
	return dir
}

var (
	compiledOnce sync.Once
	compiled     string
)

func TestMain(m *testing.M) {
	code := m.Run()
	if compiled != "" {
		os.RemoveAll(compiled)
	}
	os.Exit(code)
}

func compileAll(t *testing.T, dir string) {
	t.Helper()
	inner := filepath.Join(dir, "usr/lib/libinner.so.1")
	compile(t, inner, library, "-shared", "-Wl,-soname,libinner.so.1")
	outer := filepath.Join(dir, "srv/own/libouter.so")
	compile(t, outer, "int f(void); int g(void) { return f(); }", "-shared", "-Wl,-soname,libouter.so", inner)
	compile(t, filepath.Join(dir, "bin/server"), "int g(void); void _start(void) { g(); }", "-pie", loader, "-Wl,-rpath,$ORIGIN/../srv/own", "-L"+filepath.Join(dir, "usr/lib"), outer, inner)
	write(t, dir, map[string]string{"usr/bin/loader": "a loader"})
}

func TestCheck(t *testing.T) {
	for about, c := range map[string]struct {
		change      func(dir string) error
		command     string
		environment []string
		missing     string
		by          string
	}{
		"all there":            {nil, "/bin/server", nil, "", ""},
		"no program":           {nil, "/bin/other", nil, "/bin/other", "the command"},
		"no library":           {func(d string) error { return os.Remove(filepath.Join(d, "srv/own/libouter.so")) }, "/bin/server", nil, "libouter.so", "/bin/server"},
		"a library elsewhere":  {func(d string) error { return os.Rename(filepath.Join(d, "srv/own"), filepath.Join(d, "srv/other")) }, "/bin/server", nil, "libouter.so", "/bin/server"},
		"and looked for there": {func(d string) error { return os.Rename(filepath.Join(d, "srv/own"), filepath.Join(d, "srv/other")) }, "/bin/server", []string{"LD_LIBRARY_PATH=/x:/srv/other"}, "", ""},
		"no library's library": {func(d string) error { return os.Remove(filepath.Join(d, "usr/lib/libinner.so.1")) }, "/bin/server", nil, "libinner.so.1", ""},
		"no loader":            {func(d string) error { return os.Remove(filepath.Join(d, "usr/bin/loader")) }, "/bin/server", nil, "/lib64/ld-test.so", "/bin/server"},
		"an extension":         {func(d string) error { return os.WriteFile(filepath.Join(d, "extension.so"), extension, 0o600) }, "/bin/server", nil, "libabsent.so.6", "/extension.so"},
		"a script":             {func(d string) error { return script(d, "#!/bin/server -x\n") }, "/srv/script", nil, "", ""},
		"a script without":     {func(d string) error { return script(d, "#! /usr/bin/python3\n") }, "/srv/script", nil, "/usr/bin/python3", "/srv/script"},
		"by env": {func(d string) error {
			return errors.Join(script(d, "#!/usr/bin/env -S server\n"), os.Symlink("../../bin/server", filepath.Join(d, "usr/bin/env")))
		}, "/srv/script", nil, "", ""},
		"by env without": {func(d string) error {
			return errors.Join(script(d, "#!/usr/bin/env deno\n"), os.Symlink("../../bin/server", filepath.Join(d, "usr/bin/env")))
		}, "/srv/script", nil, "deno", "/srv/script"},
	} {
		if extension == nil {
			out := filepath.Join(t.TempDir(), "e.so")
			absent := filepath.Join(t.TempDir(), "libabsent.so.6")
			compile(t, absent, library, "-shared", "-Wl,-soname,libabsent.so.6")
			compile(t, out, "int f(void); int h(void) { return f(); }", "-shared", absent)
			b, err := os.ReadFile(out)
			must(t, err)
			extension = b
		}
		dir := payloadWith(t)
		if c.change != nil {
			must(t, c.change(dir))
		}
		err := tree(t, dir).Check([]string{c.command}, c.environment, "amd64")
		if c.missing == "" {
			if err != nil {
				t.Errorf("%s: %v", about, err)
			}
			continue
		}
		missing, ok := errors.AsType[*payloadtree.MissingError](err)
		if !ok || missing.Name != c.missing || c.by != "" && missing.By != c.by || missing.Library != strings.HasPrefix(c.missing, "lib") || !strings.Contains(fmt.Sprint(err), c.missing) {
			t.Errorf("%s: %v", about, err)
		}
	}
}

// extension needs a library that is nowhere.
var extension []byte

// Whoever puts libraries into a payload is told of all at once, each of them once.
func TestCheckTellsAllThatIsMissing(t *testing.T) {
	dir := payloadWith(t)
	for _, name := range []string{"libfirst.so.1", "libsecond.so.2"} {
		absent := filepath.Join(t.TempDir(), name)
		compile(t, absent, library, "-shared", "-Wl,-soname,"+name)
		for _, extension := range []string{"one", "two"} {
			out := filepath.Join(dir, extension+name+".so")
			compile(t, out, "int f(void); int h(void) { return f(); }", "-shared", absent)
		}
	}
	must(t, os.Remove(filepath.Join(dir, "srv/own/libouter.so")))
	err := tree(t, dir).Check([]string{"/bin/server"}, nil, "amd64")
	const want = "/bin/server needs the library libouter.so, which is not in the payload; nor are libfirst.so.1, libsecond.so.2"
	if fmt.Sprint(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
	missing, ok := errors.AsType[*payloadtree.MissingError](err)
	if !ok || missing.By != "/bin/server" || !slices.Equal(missing.Also, []string{"libfirst.so.1", "libsecond.so.2"}) {
		t.Errorf("%+v", missing)
	}
}

func script(dir, text string) error {
	return os.WriteFile(filepath.Join(dir, "srv/script"), []byte(text), 0o755)
}

func TestCheckRefuses(t *testing.T) {
	dir := payloadWith(t)
	write(t, dir, map[string]string{"bin/text": "neither", "data": "text", "broken": "\x7fELF and no more", "bin/empty": "#!\n"})
	tr := tree(t, dir)
	for command, want := range map[string]string{"/bin/text": "neither an ELF program nor a script", "/data": "may be executed", "/srv": "may be executed", "/bin/empty": "#! and no program", "/bin/server": "/broken"} {
		if err := tr.Check([]string{command}, nil, "amd64"); !errors.Is(err, payloadtree.ErrTree) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", command, err)
		}
	}
	if err := tr.Check([]string{"/bin/server"}, nil, "arm64"); !errors.Is(err, payloadtree.ErrTree) || !strings.Contains(fmt.Sprint(err), "arm64") {
		t.Errorf("another architecture: %v", err)
	}
	if got, err := tr.Program("server"); err != nil || got != "/bin/server" {
		t.Errorf("a name: %s, %v", got, err)
	}
	if _, err := tr.Program("absent"); err == nil {
		t.Error("a name that is nowhere was found")
	}
}

// A library's library is found where the program's RPATH says, and not where its
// RUNPATH does, as ld.so has it; and where it was loaded before, by its name.
func TestSearchPaths(t *testing.T) {
	for tags, want := range map[string]bool{"--disable-new-dtags": true, "--enable-new-dtags": false} {
		dir := t.TempDir()
		own := filepath.Join(dir, "srv/own")
		inner, outer := filepath.Join(own, "libinner.so"), filepath.Join(own, "libouter.so")
		compile(t, inner, library, "-shared", "-Wl,-soname,libinner.so")
		compile(t, outer, "int f(void); int g(void) { return f(); }", "-shared", "-Wl,-soname,libouter.so", inner)
		source := "int g(void); void _start(void) { g(); }"
		flags := []string{"-pie", loader, "-Wl," + tags, "-Wl,-rpath,/srv/own", "-Wl,--allow-shlib-undefined", outer}
		compile(t, filepath.Join(dir, "bin/server"), source, flags...)
		compile(t, filepath.Join(dir, "bin/both"), source, append(flags, "-Wl,--no-as-needed", inner)...)
		write(t, dir, map[string]string{"lib64/ld-test.so": "a loader"})
		if err := tree(t, dir).Check([]string{"/bin/server"}, nil, "amd64"); (err == nil) != want {
			t.Errorf("%s: %v", tags, err)
		}
		if err := tree(t, dir).Check([]string{"/bin/both"}, nil, "amd64"); err != nil {
			t.Errorf("%s: loaded before: %v", tags, err)
		}
	}
}

// What this host runs has all that it needs, as its own loader finds it.
func TestCheckAgreesWithTheHost(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("ldd", "/bin/bash").CombinedOutput()
	must(t, err)
	for _, word := range append(strings.Fields(string(out)), "/bin/bash") {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		b, err := os.ReadFile(word)
		must(t, err, os.MkdirAll(filepath.Join(dir, filepath.Dir(word)), 0o755), os.WriteFile(filepath.Join(dir, word), b, 0o755))
	}
	must(t, tree(t, dir).Check([]string{"/bin/bash"}, nil, "amd64"))
}
