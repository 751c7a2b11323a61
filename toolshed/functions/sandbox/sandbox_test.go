package sandbox

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"
	experimental "github.com/tetratelabs/wazero/experimental/sys"
)

func build(t testing.TB, source string) []byte {
	t.Helper()
	dir := t.TempDir()
	in, out := filepath.Join(dir, "main.c"), filepath.Join(dir, "main.wasm")
	if err := os.WriteFile(in, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("clang", "--target=wasm32-wasi", "-O1", "-o", out, in).CombinedOutput(); err != nil {
		t.Fatalf("building in C (make deps installs the compiler): %v\n%s", err, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var env = Environment{Now: time.Now, Random: rand.Reader}

var small = Call{Time: 10 * time.Second, Memory: 8 << 20, Output: 1 << 10, Log: 8}

// dirty looks for what an earlier call left in its memory, and leaves much.
const dirty = `
#include <stdio.h>
#include <stdlib.h>
static int calls;
int main(void) {
	size_t n = 2 << 20, found = 0;
	char *b = malloc(n);
	if (!b) return 3;
	for (size_t i = 0; i < n; i++) found += b[i] != 0;
	for (size_t i = 0; i < n; i++) b[i] = 'x';
	calls++;
	printf("%d %d", calls, found > 16); // the allocator's own bookkeeping
	fputs("0123456789", stderr);
	return 0;
}`

// A call finds nothing of the one before, whose memory it has.
func TestNothingIsLeft(t *testing.T) {
	p, err := Compile(t.Context(), env, filepath.Join(t.TempDir(), "c"), build(t, dirty))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for range 20 {
		o, err := p.Run(t.Context(), small)
		if err != nil || string(o.Output) != "1 0" || string(o.Log) != "01234567" || o.Peak < 2<<20 {
			t.Fatalf("%q, log %q, %d bytes, %v", o.Output, o.Log, o.Peak, err)
		}
	}
	for range 50 {
		m := memory{bytes: p.spares.take(), most: 8 << 20}
		for i, b := range m.bytes[:cap(m.bytes)] {
			if b != 0 {
				t.Fatalf("a spare has %d at %d", b, i)
			}
		}
	}
}

// What was compiled is used again; what is damaged of it is made anew.
func TestCompiledAgain(t *testing.T) {
	folder, module := filepath.Join(t.TempDir(), "c"), build(t, dirty)
	for _, damage := range []func([]byte) []byte{
		func(b []byte) []byte { return b },
		func(b []byte) []byte { return b[:len(b)/2] },
		func([]byte) []byte { return nil },
		func(b []byte) []byte { b[len(b)/2] ^= 0xff; return b },
	} {
		err := filepath.WalkDir(folder, func(path string, e os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, damage(b), 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
		p, err := Compile(t.Context(), env, folder, module)
		if err != nil {
			t.Fatal(err)
		}
		if o, err := p.Run(t.Context(), small); err != nil || string(o.Output) != "1 0" {
			t.Errorf("%q, %v", o.Output, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A caller who goes away ends the call, and it is not the function's failure.
func TestCallerGoesAway(t *testing.T) {
	p, err := Compile(t.Context(), env, filepath.Join(t.TempDir(), "c"), build(t, `
#include <stdio.h>
int main(void) { putchar('x'); fflush(stdout); for (volatile int i = 0;; i++); }`))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := p.Run(ctx, small); !errors.Is(err, context.Canceled) || errors.Is(err, ErrFailed) {
		t.Error(err)
	}
}

func TestScan(t *testing.T) {
	tables := func(content ...byte) []byte {
		return append([]byte(magic), append([]byte{tableSection, byte(len(content))}, content...)...)
	}
	for name, c := range map[string]struct {
		module []byte
		refs   bool
		err    bool
	}{
		"no table":         {[]byte(magic), true, false},
		"bounded":          {tables(1, 0x70, 1, 2, 2), true, false},
		"unbounded":        {tables(1, 0x70, 0, 2), false, false},
		"one of two":       {tables(2, 0x70, 1, 2, 2, 0x70, 0, 1), false, false},
		"begins large":     {tables(1, 0x70, 0, 0x80, 0x80, 0x80, 0x01), false, true},
		"may become large": {tables(1, 0x70, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f), false, true},
		"too many":         {tables(17), false, true},
		"large together":   {tables(2, 0x70, 1, 0, 0x80, 0x80, 0x30, 0x70, 0, 0x80, 0x80, 0x30), false, true},
		"cut off":          {tables(1, 0x70), false, true},
		"a long section":   {append([]byte(magic), 0, 9), false, true},
		"no module":        {[]byte("#!/bin/sh\n"), false, true},
	} {
		features, err := scan(c.module)
		if (err != nil) != c.err || err == nil && features.IsEnabled(api.CoreFeatureReferenceTypes) != c.refs {
			t.Errorf("%s: %v, %v", name, features, err)
		}
	}
}

// A module of anybody's is refused or runs within its bounds.
func FuzzModule(f *testing.F) {
	f.Add([]byte(magic))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x05\x03\x01\x00\x01\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00\x0a\x04\x01\x02\x00\x0b"))
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x05\x03\x01\x00\x01\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b"))
	f.Fuzz(func(t *testing.T, module []byte) {
		p, err := Compile(t.Context(), env, filepath.Join(t.TempDir(), "c"), module)
		if err != nil {
			if p != nil || !errors.Is(err, ErrModule) {
				t.Fatal(err)
			}
			return
		}
		defer p.Close()
		if err := p.Try(t.Context()); err != nil && !errors.Is(err, ErrModule) {
			t.Fatal(err)
		}
		call := small
		call.Time = 100 * time.Millisecond
		o, err := p.Run(t.Context(), call)
		if o.Peak > call.Memory || int64(len(o.Output)) > call.Output {
			t.Errorf("%d bytes of memory, %d of output", o.Peak, len(o.Output))
		}
		for _, known := range []error{ErrTime, ErrOutput, ErrMemory, ErrFailed} {
			if errors.Is(err, known) {
				return
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// The scratch counts what it holds, whatever is done to it.
func FuzzScratch(f *testing.F) {
	f.Add("wa wb ta rab da ua mf wf/x")
	f.Fuzz(func(t *testing.T, script string) {
		s := newScratch()
		for word := range strings.FieldsSeq(script) {
			op, name := word[0], word[1:]
			switch op {
			case 'w', 't':
				file, errno := s.OpenFile(name, experimental.O_WRONLY|experimental.O_CREAT, 0)
				if errno != 0 {
					continue
				}
				file.Pwrite(make([]byte, 1<<20), int64(len(name))<<18)
				if op == 't' {
					file.Truncate(3)
				}
			case 'm':
				s.Mkdir(name, 0)
			case 'r':
				s.Rename(name[:len(name)/2], name[len(name)/2:])
			case 'u':
				s.Unlink(name)
			case 'd':
				s.Rmdir(name)
			}
		}
		var held int64
		for _, n := range s.nodes {
			held += int64(len(n.data))
		}
		if held != s.bytes || held > maxScratchBytes || len(s.nodes) > maxScratchFiles+1 {
			t.Errorf("%d bytes, counted %d, in %d nodes", held, s.bytes, len(s.nodes))
		}
	})
}
