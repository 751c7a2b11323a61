package erofs_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// run has a program of erofs-utils say something of an image, without a complaint.
func run(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing: make deps", program)
	}
	out, err := exec.Command(program, arguments...).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("<E>")) || bytes.Contains(out, []byte("<W>")) {
		t.Fatalf("%s %q: %v\n%s", program, arguments, err, out)
	}
	return string(out)
}

func stored(t *testing.T, image []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image")
	must(t, os.WriteFile(file, image, 0o600))
	return file
}

// What fsck.erofs unpacks is what went in.
func TestImageIsErofsUtils(t *testing.T) {
	entries := sample()
	image := stored(t, build(t, entries))
	run(t, "fsck.erofs", image)
	to := filepath.Join(t.TempDir(), "to")
	run(t, "fsck.erofs", "--extract="+to, "--preserve-perms", image)
	checkTree(t, to, false)
	super := run(t, "dump.erofs", "-s", image)
	for _, want := range []string{
		"0xE0F5E1E2", fmt.Sprintf("inode count:                       %d", len(entries)+1), "sb_csum", "53686564-7061-796c-6f61-640000000001", "Thu Jan  1 00:00:00 1970",
	} {
		if !strings.Contains(super, want) {
			t.Errorf("dump.erofs does not say %s:\n%s", want, super)
		}
	}
	for name, want := range map[string]string{
		"/a/b": "Uid: 0   Gid: 0  Access: 0750/rwxr-x---", "/many": "Links: 2", "/a": "Links: 3", "/file-8193": "Size: 8193",
	} {
		if said := run(t, "dump.erofs", "--path="+name, image); !strings.Contains(said, want) {
			t.Errorf("dump.erofs says of %s, instead of %s:\n%s", name, want, said)
		}
	}
}

// The kernel of this machine reads an image, where it can mount one.
func TestImageIsTheKernels(t *testing.T) {
	dir := t.TempDir()
	theirs, at := filepath.Join(dir, "theirs"), filepath.Join(dir, "at")
	must(t, os.Mkdir(at, 0o700))
	run(t, "mkfs.erofs", "--quiet", theirs, at)
	if out, err := exec.Command("mount", "-t", "erofs", "-o", "loop,ro", theirs, at).CombinedOutput(); err != nil {
		t.Skipf("this machine mounts no image, mkfs.erofs's neither: %v: %s", err, out)
	}
	run(t, "umount", at)
	run(t, "mount", "-t", "erofs", "-o", "loop,ro", stored(t, build(t, sample())), at)
	t.Cleanup(func() { run(t, "umount", at) })
	checkTree(t, at, true)
}

// checkTree compares a directory with the sample; whole says that owners, links
// and times are the image's too.
func checkTree(t *testing.T, dir string, whole bool) {
	t.Helper()
	count, directories := 0, map[string]int{}
	must(t, filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error {
		count++
		return err
	}))
	entries := sample()
	if count != len(entries)+1 {
		t.Errorf("%d names, want %d", count, len(entries)+1)
	}
	for _, e := range entries {
		if e.Mode.IsDir() {
			directories[filepath.Dir(e.Name)]++
		}
	}
	for _, e := range entries {
		name := filepath.Join(dir, e.Name)
		info, err := os.Lstat(name)
		must(t, err)
		if info.Mode() != e.Mode {
			t.Errorf("%q has mode %v, want %v", e.Name, info.Mode(), e.Mode)
		}
		s, links := info.Sys().(*syscall.Stat_t), 1
		if e.Mode.IsDir() {
			links = 2 + directories[e.Name]
		}
		if whole && (s.Uid != 0 || s.Gid != 0 || int(s.Nlink) != links || s.Mtim.Nano() != 0) {
			t.Errorf("%q: user %d, group %d, %d links, want %d, time %d", e.Name, s.Uid, s.Gid, s.Nlink, links, s.Mtim.Nano())
		}
		var got []byte
		switch {
		case e.Mode.IsRegular():
			got, err = os.ReadFile(name)
		case e.Mode&fs.ModeSymlink != 0:
			var to string
			to, err = os.Readlink(name)
			got = []byte(to)
		}
		if err != nil || !bytes.Equal(got, content(t, e)) {
			t.Errorf("%q: %d bytes, want %d, error %v", e.Name, len(got), len(content(t, e)), err)
		}
	}
}
