package initrd

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
)

type step func(*Archive) error

func sampleSteps() []step {
	return []step{
		func(a *Archive) error { return a.File("init", 0o755, []byte("program")) },
		func(a *Archive) error { return a.File("etc/shed/release.json", 0o644, []byte("{}")) },
		func(a *Archive) error { return a.Directory("tmp", 0o1777) },
		func(a *Archive) error { return a.CharDevice("dev/console", 0o600, 5, 1) },
	}
}

func pack(t *testing.T, steps []step) []byte {
	t.Helper()
	a := New()
	for _, s := range steps {
		if err := s(a); err != nil {
			t.Fatal(err)
		}
	}
	b, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOrderDoesNotMatter(t *testing.T) {
	steps := sampleSteps()
	backwards := []step{steps[3], steps[2], steps[1], steps[0]}
	if !bytes.Equal(pack(t, steps), pack(t, backwards)) {
		t.Error("the order of adding shows in the archive")
	}
}

func TestArchiveHoldsWhatWasAdded(t *testing.T) {
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(pack(t, sampleSteps()), nil)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		name string
		mode uint64
	}{
		{"dev", cpio.S_IFDIR | 0o755},
		{"dev/console", cpio.S_IFCHR | 0o600},
		{"etc", cpio.S_IFDIR | 0o755},
		{"etc/shed", cpio.S_IFDIR | 0o755},
		{"etc/shed/release.json", cpio.S_IFREG | 0o644},
		{"init", cpio.S_IFREG | 0o755},
		{"tmp", cpio.S_IFDIR | 0o1777},
	}
	if len(records) != len(want) {
		t.Fatalf("%d records, want %d", len(records), len(want))
	}
	inodes := map[uint64]bool{}
	for i, r := range records {
		if r.Name != want[i].name || r.Mode != want[i].mode {
			t.Errorf("record %d is %s %#o, want %s %#o", i, r.Name, r.Mode, want[i].name, want[i].mode)
		}
		if r.UID != 0 || r.GID != 0 || r.MTime != 0 || inodes[r.Ino] {
			t.Errorf("%s: %+v", r.Name, r.Info)
		}
		inodes[r.Ino] = true
	}
	if console := records[1]; console.Rmajor != 5 || console.Rminor != 1 {
		t.Errorf("console is %d:%d", console.Rmajor, console.Rminor)
	}
}

func TestEntriesAreChecked(t *testing.T) {
	for _, name := range []string{"", ".", "/etc/passwd", "../etc", "a/../b", "a//b", "a/"} {
		if err := New().File(name, 0o644, nil); !errors.Is(err, ErrEntry) {
			t.Errorf("path %q: got %v", name, err)
		}
	}
	a := New()
	if err := a.File("bin", 0o755, []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := a.File("bin", 0o755, []byte("1")); err != nil {
		t.Errorf("the same file again: %v", err)
	}
	if err := a.File("bin", 0o755, []byte("2")); !errors.Is(err, ErrEntry) {
		t.Errorf("another file of that name: got %v", err)
	}
	if err := a.File("bin/sh", 0o755, nil); !errors.Is(err, ErrEntry) {
		t.Errorf("a file in a file: got %v", err)
	}
}

// TestLibrariesOfMkfs wants the loader and libc among what mkfs.btrfs needs, and
// a static program to need nothing.
func TestLibrariesOfMkfs(t *testing.T) {
	const mkfs = "/usr/sbin/mkfs.btrfs"
	if _, err := os.Stat(mkfs); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no %s: it is in the package btrfs-progs", mkfs)
	}
	libraries, err := Libraries("", mkfs)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, lib := range libraries {
		found[filepath.Base(lib.Path)] = len(lib.Data) > 0
	}
	for _, name := range []string{"ld-linux-x86-64.so.2", "libc.so.6", "libblkid.so.1"} {
		if !found[name] {
			t.Errorf("%s is not among %v", name, found)
		}
	}
}

func TestLibrariesOfNoProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Libraries("", file); err == nil {
		t.Error("a script has libraries")
	}
}
